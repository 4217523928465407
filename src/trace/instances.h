// Candidates into instances: their device events, each with its role.
#pragma once

#include <unordered_map>
#include <vector>

#include "trace/candidate.h"
#include "trace/kernel_kind.h"
#include "trace/match.h"
#include "trace/node.h"

namespace fusedmlp::trace {

class Instances {
 public:
  Instances(const Trace& trace, const Nodes& nodes) : trace_(trace), nodes_(nodes) {}

  // Without parts: every field but the phase's events.
  Instance describe(const Candidate& candidate) const;
  // False when a product has no device event: the trace holds only part of this MLP.
  bool collect(const Lane& lane, const Candidate& candidate, std::vector<Part>& parts);
  // The events of one node, the product among them in the given role.
  void add_node(const Node& node, Role role, std::vector<Part>& parts);
  const KernelKind& kernel(std::uint32_t name);
  // tf32 where the product's kernel says so.
  void refine_number(Instance& instance);
  void sort(std::vector<Part>& parts) const;

 private:
  const Trace& trace_;
  const Nodes& nodes_;
  std::unordered_map<std::uint32_t, KernelKind> kernels_;
};

}  // namespace fusedmlp::trace
