// The ops of kernels that a CUDA graph replays.
#pragma once

#include <vector>

#include "trace/join.h"

namespace fusedmlp::trace {

// Whether a device event was launched by replaying a graph: its launching call says so, or its node id.
bool is_replayed(const Trace& trace, const Link& link);

// The innermost cpu_op around an event on its thread, or kNone.
std::uint32_t enclosing_op(const Trace& trace, const std::vector<std::uint32_t>& parent, std::uint32_t event);

// Fills in the replayed links, whose op must be kNone, from captures in the trace, from eager runs of the same
// kernels, and from each other. The other links must be final.
void join_replays(const Trace& trace, Joined& joined);

}  // namespace fusedmlp::trace
