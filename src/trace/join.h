// Which op launched which kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "trace/trace.h"

namespace fusedmlp::trace {

// How the op of a device event is known, and how sure that is:
//   external_id   Kineto's own mark. 1; 0.8 if several ops bear it and time decided (ranks put into one file)
//   correlation   the op around the launching call on its thread. 0.9; 0.7 if the External id names another op
//   sequence      a replayed CUDA graph, by the launches of its capture (0.7, 0.5 if several captures are as long) or
//   by
//                 the same kernels run eagerly (0.6)
//   graph_node    a replayed CUDA graph, by the node of another replay whose op is known. As that one
//   none          not known. 0
// With sequence and graph_node the op is the one that recorded the work: it lies at another time.
enum class JoinedBy : std::uint8_t { external_id, correlation, graph_node, sequence, none };

// The op of one device event.
struct Link {
  std::uint32_t event = kNone;    // the kernel, memcpy or memset: index into Trace::events
  std::uint32_t op = kNone;       // innermost cpu_op that launched it; kNone: not known
  std::uint32_t runtime = kNone;  // the launching runtime call
  JoinedBy how = JoinedBy::none;
  float confidence = 0;  // 0 to 1
};

struct Joined {
  std::vector<Link> links;            // of device events, in order of start
  std::vector<std::uint32_t> parent;  // for each event: the innermost enclosing cpu_op or annotation on its thread
};

Joined join(const Trace& trace);

}  // namespace fusedmlp::trace
