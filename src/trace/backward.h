// The backward passes of MLPs whose forward pass was found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trace/instances.h"

namespace fusedmlp::trace {

// The autograd sequence numbers of one forward pass. Its backward nodes carry the same ones.
struct ForwardRange {
  std::uint32_t pid = kNone;
  std::int64_t first = -1, gate = -1, last = -1;
  std::size_t instance = 0;  // of the forward pass
};

struct BackwardMatches {
  std::vector<Instance> instances;
  std::int64_t incomplete = 0;
  std::int64_t compiled = 0;  // passes of compiled graphs, whose one sequence number says nothing about layers
};

BackwardMatches find_backward(const Trace& trace, const Nodes& nodes, std::vector<ForwardRange> ranges,
                              const std::vector<Instance>& forward, Instances& instances);

}  // namespace fusedmlp::trace
