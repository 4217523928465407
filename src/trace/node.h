// The trace as the matcher sees it: a lane of nodes a thread (or a stream, for kernels that no op claims), each an op
// that computes, with its shapes and its device events.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trace/join.h"
#include "trace/op_kind.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

enum class Number : std::uint8_t { unknown, bf16, fp16, fp32, tf32, other };

struct Node {
  std::uint32_t event = kNone;  // the op, or the kernel where there is none
  std::uint32_t group = kNone;  // outermost aten::linear around it
  std::uint32_t root = kNone;   // the autograd node whose backward it runs in
  std::int64_t time = 0;
  OpClass op_class = OpClass::boundary;
  Steps steps = 0;
  bool fused = false;
  bool half = false;
  bool vague = false;  // whether the operands are tensors or numbers is not known
  bool is_op = false;
  bool works = false;     // has device events; on a CPU-only trace: does more than hand on a view
  bool experts = false;   // a product over experts, or one of many
  bool reduce = false;    // ends a split-K product
  bool compiled = false;  // inside a compiled graph: CPU code there leaves no events of its own
  bool routed = false;    // its kernels were found by graph node or sequence
  bool bias_known = false;
  bool bias = false;
  Number number = Number::unknown;
  float confidence = 1;
  std::int64_t m = -1, k = -1, n = -1, batch = -1;  // products; batch: experts or heads
  std::int64_t elements = -1;                       // pointwise: of the largest input
  std::int64_t width = -1;                          // pointwise, top_k: last dimension of the largest input
  std::uint32_t first = 0, count = 0;               // device events: Nodes::events
};

struct Lane {
  std::string name;  // thread or stream, for messages
  std::uint32_t pid = kNone;
  bool kernels = false;  // of kernels alone
  std::vector<Node> nodes;
};

struct Nodes {
  bool cpu_only = false;              // no device events: ops stand in for kernels
  std::vector<Lane> lanes;            // each in order of time
  std::vector<std::uint32_t> events;  // device events by node

  std::span<const std::uint32_t> of(const Node& node) const {
    return std::span<const std::uint32_t>(events).subspan(node.first, node.count);
  }
};

Nodes make_nodes(const Trace& trace, const Joined& joined);

}  // namespace fusedmlp::trace
