// Which op launched which kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "trace/trace.h"

namespace fusedmlp::trace {

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
