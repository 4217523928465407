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

// A trace of a gigabyte has a million of them: kept small.
struct Node {
  std::int64_t time = 0;
  std::int64_t m = -1;                      // products: rows
  std::int64_t elements = -1;               // pointwise, top_k: of the largest input
  std::uint32_t event = kNone;              // the op, or the kernel where there is none
  std::uint32_t group = kNone;              // outermost aten::linear around it
  std::uint32_t root = kNone;               // the autograd node whose backward it runs in
  std::uint32_t first = 0, count = 0;       // device events: Nodes::events
  std::int32_t k = -1, n = -1, batch = -1;  // products; batch: experts or heads. top_k: k
  std::int32_t width = -1;                  // pointwise, top_k: last dimension of the largest input
  float confidence = 1;
  Steps steps = 0;
  OpClass op_class = OpClass::boundary;
  Number number = Number::unknown;
  bool fused : 1 = false;
  bool half : 1 = false;
  bool vague : 1 = false;  // whether the operands are tensors or numbers is not known
  bool is_op : 1 = false;
  bool works : 1 = false;     // has device events; on a CPU-only trace: does more than hand on a view
  bool experts : 1 = false;   // a product over experts, or one of many
  bool reduce : 1 = false;    // ends a split-K product
  bool compiled : 1 = false;  // inside a compiled graph: CPU code there leaves no events of its own
  bool routed : 1 = false;    // its kernels were found by graph node or sequence
  bool captured : 1 = false;  // recorded into a graph whose replays did its work
  bool bias_known : 1 = false;
  bool bias : 1 = false;
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
