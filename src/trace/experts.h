// Mixtures of experts: which candidates are experts of one layer, how many there are, and how many a token takes.
#pragma once

#include <span>
#include <vector>

#include "trace/candidate.h"

namespace fusedmlp::trace {

// Experts called one after another are one MLP. Everything else is a group of one.
struct ExpertGroup {
  Candidate candidate;  // of the whole
  std::vector<Candidate> members;
};

std::vector<ExpertGroup> group_experts(std::span<const Node> nodes, std::span<const Candidate> candidates);

}  // namespace fusedmlp::trace
