// Finds MLPs among ops and kernels.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fusedmlp/analysis.h"
#include "trace/join.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

struct Part {
  std::uint32_t event = kNone;  // a device event; on a CPU-only trace an op
  Role role = Role::other;
};

// One occurrence of an MLP, before equal ones are put into rows. Optionals as in MlpRow.
struct Instance {
  std::string kind;
  bool gated = false;
  std::optional<std::int64_t> tokens, d_in, d_hidden, d_out;
  std::optional<std::string> dtype;
  std::optional<bool> bias;
  Phase phase = Phase::forward;
  std::optional<std::int64_t> experts, top_k;
  double confidence = 0;
  std::vector<Part> parts;  // in order of start; memcpys and memsets among them
};

struct Matches {
  std::vector<Instance> instances;    // in order of start within a thread or stream
  std::vector<std::string> warnings;  // what was left out and why
};

// Linear in the number of events.
Matches match(const Trace& trace, const Joined& joined);

}  // namespace fusedmlp::trace
