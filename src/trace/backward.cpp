#include "trace/backward.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace fusedmlp::trace {
namespace {

Role role_of(const Node& node, std::string_view name, std::int64_t sequence, const ForwardRange& range, bool gated) {
  if (name.find("_backward") != std::string_view::npos) return Role::activation;
  if (name == "aten::sum") return Role::bias;  // gradient of one
  switch (node.op_class) {
    case OpClass::gemm:
      if (range.first == range.last) return Role::up;  // one node does all products: which is whose is not told
      if (sequence > range.gate && sequence >= range.last) return Role::down;
      return gated && sequence <= range.gate ? Role::gate : Role::up;
    case OpClass::copy: return Role::cast;
    case OpClass::pointwise: return Role::activation;
    default: return Role::other;
  }
}

// Forward work that checkpointing does again has sequence numbers of its own; what a backward node calls has none.
bool recomputes(const Trace& trace, const Node& node) {
  const Event& event = trace.events[node.event];
  return event.category == Category::cpu_op && event.args != kNone && trace.op_args[event.args].sequence >= 0;
}

}  // namespace

BackwardMatches find_backward(const Trace& trace, const Nodes& nodes, std::vector<ForwardRange> ranges,
                              const std::vector<Instance>& forward, Instances& instances) {
  BackwardMatches result;
  std::sort(ranges.begin(), ranges.end(), [](const ForwardRange& a, const ForwardRange& b) {
    return a.pid != b.pid ? a.pid < b.pid : a.first < b.first;
  });
  struct Found {
    std::vector<Part> parts;
    int products = 0, missing = 0;
  };
  std::map<std::size_t, Found> found;  // by range
  std::uint32_t compiled = kNone;
  for (const Lane& lane : nodes.lanes) {
    for (const Node& node : lane.nodes) {
      if (node.root == kNone || recomputes(trace, node)) continue;
      const Event& root = trace.events[node.root];
      if (node.op_class == OpClass::gemm && node.root != compiled &&
          trace.text(root.name).find("CompiledFunctionBackward") != std::string_view::npos) {
        compiled = node.root;
        ++result.compiled;
      }
      const std::int64_t sequence = root.args == kNone ? -1 : trace.op_args[root.args].sequence;
      if (sequence < 0) continue;
      const auto after =
          std::upper_bound(ranges.begin(), ranges.end(), std::pair(lane.pid, sequence),
                           [](const auto& key, const ForwardRange& range) {
                             return key.first != range.pid ? key.first < range.pid : key.second < range.first;
                           });
      if (after == ranges.begin()) continue;
      const ForwardRange& range = *(after - 1);
      if (range.pid != lane.pid || sequence > range.last) continue;
      Found& here = found[static_cast<std::size_t>(after - 1 - ranges.begin())];
      const bool gated = forward[range.instance].gated;
      if (node.op_class == OpClass::gemm) {
        ++here.products;
        here.missing += node.works ? 0 : 1;
      }
      instances.add_node(node, role_of(node, trace.text(trace.events[node.event].name), sequence, range, gated),
                         here.parts);
    }
  }
  for (auto& [index, here] : found) {
    if (here.products == 0) continue;
    // Two products a weight; the first layer's input may need no gradient.
    const Instance& model = forward[ranges[index].instance];
    if (here.missing > 0 || here.products < 3) {
      ++result.incomplete;
      continue;
    }
    Instance instance = model;
    instance.phase = Phase::backward;
    instance.confidence *= 0.95;
    instance.parts = std::move(here.parts);
    result.instances.push_back(std::move(instance));
  }
  return result;
}

}  // namespace fusedmlp::trace
