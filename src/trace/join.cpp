#include "trace/join.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace fusedmlp::trace {
namespace {

bool on_host(Category category) {
  return category == Category::cpu_op || category == Category::user_annotation || category == Category::runtime ||
         category == Category::python_function;
}

bool on_device(Category category) {
  return category == Category::kernel || category == Category::memcpy || category == Category::memset;
}

using Row = std::uint64_t;  // pid and tid

Row row_of(const Event& event) { return (Row{event.pid} << 32) | event.tid; }

// The innermost enclosing op or annotation of each host event.
std::vector<std::uint32_t> parents(const Trace& trace) {
  std::vector<std::uint32_t> parent(trace.events.size(), kNone);
  std::unordered_map<Row, std::vector<std::uint32_t>> open;
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    const Event& event = trace.events[i];
    if (!on_host(event.category)) continue;
    std::vector<std::uint32_t>& stack = open[row_of(event)];
    while (!stack.empty() && trace.events[stack.back()].end() < event.end()) stack.pop_back();
    if (!stack.empty()) parent[i] = stack.back();
    if (event.category == Category::cpu_op || event.category == Category::user_annotation) stack.push_back(i);
  }
  return parent;
}

}  // namespace

Joined join(const Trace& trace) {
  Joined joined;
  joined.parent = parents(trace);
  std::unordered_map<std::int64_t, std::uint32_t> ops, calls;
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    const Event& event = trace.events[i];
    if (event.category == Category::cpu_op && trace.op_args[event.args].external_id > 0) {
      ops[trace.op_args[event.args].external_id] = i;
    }
    if (event.category == Category::runtime && trace.runtime_args[event.args].correlation > 0) {
      calls[trace.runtime_args[event.args].correlation] = i;
    }
  }
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    const Event& event = trace.events[i];
    if (!on_device(event.category)) continue;
    const DeviceArgs& args = trace.device_args[event.args];
    Link link;
    link.event = i;
    if (const auto call = calls.find(args.correlation); call != calls.end()) link.runtime = call->second;
    if (const auto op = ops.find(args.external_id); op != ops.end()) {
      link.op = op->second;
      link.how = JoinedBy::external_id;
      link.confidence = 1;
    } else if (link.runtime != kNone) {
      std::uint32_t op_of_call = joined.parent[link.runtime];
      while (op_of_call != kNone && trace.events[op_of_call].category != Category::cpu_op) {
        op_of_call = joined.parent[op_of_call];
      }
      if (op_of_call != kNone) {
        link.op = op_of_call;
        link.how = JoinedBy::correlation;
        link.confidence = 0.9f;
      }
    }
    joined.links.push_back(link);
  }
  return joined;
}

}  // namespace fusedmlp::trace
