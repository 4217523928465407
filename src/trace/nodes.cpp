#include <algorithm>
#include <unordered_map>
#include <utility>

#include "core/format.h"
#include "trace/kernel_kind.h"
#include "trace/node.h"
#include "trace/node_shapes.h"

namespace fusedmlp::trace {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// One answer a distinct name.
template <class Kind, Kind (*compute)(std::string_view)>
class Kinds {
 public:
  explicit Kinds(const Trace& trace) : trace_(trace) {}
  const Kind& operator()(std::uint32_t name) {
    const auto [at, fresh] = known_.try_emplace(name);
    if (fresh) at->second = compute(trace_.text(name));
    return at->second;
  }

 private:
  const Trace& trace_;
  std::unordered_map<std::uint32_t, Kind> known_;
};

class Builder {
 public:
  Builder(const Trace& trace, const Joined& joined)
      : trace_(trace), joined_(joined), ops_(trace), kernels_(trace), context_(trace.events.size()) {}

  Nodes build() {
    result_.cpu_only = joined_.links.empty();
    mark_products();
    for (std::uint32_t event = 0; event < trace_.events.size(); ++event) {
      const Category category = trace_.events[event].category;
      if (category == Category::cpu_op || category == Category::user_annotation) add_op(event);
    }
    for (const Link& link : joined_.links) add_device_event(link);
    distribute();
    return std::move(result_);
  }

 private:
  // What an op hands to its children.
  struct Context {
    std::uint32_t owner = kNone;  // the node that all its work belongs to
    std::uint32_t group = kNone;
    std::uint32_t root = kNone;
    bool has_product = false;
    bool wrapper = false;  // of a product of the same name
    bool compiled = false;
  };

  struct Place {
    std::uint32_t lane, index;
  };

  std::uint32_t parent(std::uint32_t event) const {
    return event < joined_.parent.size() ? joined_.parent[event] : kNone;
  }

  // A linear or matmul that calls a product is only its wrapper, and so is a product that casts and calls itself:
  // autocast.
  void mark_products() {
    for (std::uint32_t event = 0; event < trace_.events.size(); ++event) {
      if (trace_.events[event].category != Category::cpu_op) continue;
      if (ops_(trace_.events[event].name).op_class != OpClass::gemm) continue;
      for (std::uint32_t up = parent(event); up != kNone && !context_[up].has_product; up = parent(up)) {
        context_[up].has_product = true;
      }
      for (std::uint32_t up = parent(event); up != kNone; up = parent(up)) {
        if (ops_(trace_.events[up].name).op_class != OpClass::gemm) break;
        if (trace_.events[up].name == trace_.events[event].name) context_[up].wrapper = true;
      }
    }
  }

  void add_op(std::uint32_t index) {
    const Event& event = trace_.events[index];
    const std::uint32_t up = parent(index);
    Context& context = context_[index];
    if (up != kNone) {
      context.owner = context_[up].owner;
      context.group = context_[up].group;
      context.root = context_[up].root;
      context.compiled = context_[up].compiled;
    }
    if (context.owner != kNone) {
      // A copy that calls something copies; what a view calls are views.
      Node& owner = node(context.owner);
      if (result_.cpu_only && owner.op_class != OpClass::split) owner.works = true;
      // An _addmm_activation that calls its activation names it.
      if (owner.op_class == OpClass::gemm && owner.fused && up == owner.event) {
        const OpKind& called = ops_(event.name);
        if (called.op_class == OpClass::pointwise) owner.steps = called.steps;
      }
      return;
    }
    const std::string_view name = trace_.text(event.name);
    if (name.rfind("Torch-Compiled Region", 0) == 0 || name.rfind("## Call CompiledFxGraph", 0) == 0) {
      context.compiled = true;
    }
    if (event.category == Category::user_annotation) return;
    if (name.rfind("autograd::engine::evaluate_function", 0) == 0) context.root = index;
    const OpKind& kind = ops_(event.name);
    if (kind.op_class == OpClass::container || kind.op_class == OpClass::view) return;
    const bool wraps = context.has_product && (name == "aten::linear" || name == "aten::matmul");
    if (wraps || context.wrapper) {
      if (name != "aten::matmul" && context.group == kNone) context.group = index;
      return;
    }
    Node made;
    made.event = index;
    made.group = context.group;
    made.root = context.root;
    made.time = event.start;
    made.op_class = kind.op_class;
    made.steps = kind.steps;
    made.fused = kind.fused;
    made.half = kind.half;
    made.is_op = true;
    made.compiled = context.compiled;
    made.bias = made.bias_known = kind.bias_named;
    const bool idle = kind.op_class == OpClass::split || name.find("dropout") != std::string_view::npos;
    made.works = result_.cpu_only && !idle;
    constexpr Steps kByOperands = bit(Step::multiply) | bit(Step::add) | bit(Step::scale) | bit(Step::power);
    made.vague = !kind.fused && (kind.steps & kByOperands) != 0;
    if (event.args != kNone) read_arguments(trace_, trace_.op_args[event.args], name, kind, made);
    made.experts |= contains(name, "grouped_mm");
    context.owner = static_cast<std::uint32_t>(places_.size());
    push(made, event.pid, event.tid, false);
  }

  void add_device_event(const Link& link) {
    const Event& event = trace_.events[link.event];
    const std::uint32_t owner = link.op == kNone ? kNone : context_[link.op].owner;
    const bool routed = link.how == JoinedBy::graph_node || link.how == JoinedBy::sequence;
    if (owner != kNone && !routed) {
      owner_of_link_.push_back(owner);
      node(owner).works = true;
      node(owner).confidence = std::min(node(owner).confidence, link.confidence);
      refine(event, node(owner));
      return;
    }
    Node made = kernel_node(link, event);
    if (routed && owner != kNone) {
      node(owner).captured = true;
      inherit(node(owner), made);
    }
    const bool graph =
        link.runtime != kNone && contains(trace_.text(trace_.events[link.runtime].name), "GraphLaunch");
    owner_of_link_.push_back(static_cast<std::uint32_t>(places_.size()));
    if (link.runtime != kNone && !graph && !routed) {
      const Event& call = trace_.events[link.runtime];
      made.time = call.start;
      if (link.op != kNone) made.root = context_[link.op].root;
      push(made, call.pid, call.tid, false);
    } else {
      push(made, event.pid, event.tid, true);
    }
  }

  // Where an op's arguments are not recorded, its kernel tells a product by a number from one of two tensors.
  void refine(const Event& event, Node& node) {
    if (!node.vague || event.category != Category::kernel) return;
    const OpKind& kind = kernels_(event.name).kind;
    if (kind.op_class != OpClass::pointwise) return;
    node.steps = kind.steps;
    node.vague = false;
  }

  Node kernel_node(const Link& link, const Event& event) {
    Node node;
    node.event = link.event;
    node.time = event.start;
    node.works = true;
    node.confidence = link.op == kNone ? 1.0F : link.confidence;
    if (event.category != Category::kernel) {
      node.op_class = OpClass::copy;
      return node;
    }
    const KernelKind& kernel = kernels_(event.name);
    node.op_class = kernel.kind.op_class;
    node.steps = kernel.kind.steps;
    node.fused = kernel.kind.fused;
    node.half = kernel.kind.half;
    node.experts = kernel.experts;
    node.reduce = kernel.reduce;
    node.bias = node.bias_known = kernel.decoded.fused_bias || kernel.kind.bias_named;
    if (kernel.decoded.dtype) node.number = number_of(*kernel.decoded.dtype);
    return node;
  }

  // A replayed kernel does what the op did that was recorded.
  static void inherit(const Node& op, Node& node) {
    node.routed = true;
    if (node.op_class == OpClass::copy || op.op_class == OpClass::copy) return;
    const Node kernel = node;
    node = op;
    node.event = kernel.event;
    node.time = kernel.time;
    node.group = kNone;
    node.is_op = false;
    node.works = node.routed = true;
    node.confidence = kernel.confidence;
  }

  void push(const Node& node, std::uint32_t pid, std::uint32_t tid, bool kernels) {
    const std::uint64_t key =
        (static_cast<std::uint64_t>(pid) << 33) ^ (static_cast<std::uint64_t>(tid) << 1) ^ kernels;
    const auto [at, fresh] = lane_index_.try_emplace(key, result_.lanes.size());
    if (fresh) {
      Lane lane;
      lane.name = core::format("{} {} of {}", kernels ? "stream" : "thread", trace_.text(tid), trace_.text(pid));
      lane.pid = pid;
      lane.kernels = kernels;
      result_.lanes.push_back(std::move(lane));
    }
    std::vector<Node>& nodes = result_.lanes[at->second].nodes;
    places_.push_back({static_cast<std::uint32_t>(at->second), static_cast<std::uint32_t>(nodes.size())});
    nodes.push_back(node);
  }

  Node& node(std::uint32_t id) { return result_.lanes[places_[id].lane].nodes[places_[id].index]; }

  // Each node's device events side by side, and lanes in order of time.
  void distribute() {
    for (const std::uint32_t owner : owner_of_link_) ++node(owner).count;
    std::uint32_t first = 0;
    for (Lane& lane : result_.lanes) {
      for (Node& each : lane.nodes) {
        each.first = first;
        first += std::exchange(each.count, 0);
      }
    }
    result_.events.resize(owner_of_link_.size());
    for (std::size_t i = 0; i < owner_of_link_.size(); ++i) {
      Node& owner = node(owner_of_link_[i]);
      result_.events[owner.first + owner.count++] = joined_.links[i].event;
    }
    const auto earlier = [](const Node& a, const Node& b) { return a.time < b.time; };
    for (Lane& lane : result_.lanes) {
      if (!std::is_sorted(lane.nodes.begin(), lane.nodes.end(), earlier)) {
        std::stable_sort(lane.nodes.begin(), lane.nodes.end(), earlier);
      }
    }
  }

  const Trace& trace_;
  const Joined& joined_;
  Kinds<OpKind, op_kind> ops_;
  Kinds<KernelKind, kernel_kind> kernels_;
  std::vector<Context> context_;
  std::vector<Place> places_;  // of nodes, until lanes are sorted
  std::vector<std::uint32_t> owner_of_link_;
  std::unordered_map<std::uint64_t, std::size_t> lane_index_;
  Nodes result_;
};

}  // namespace

Nodes make_nodes(const Trace& trace, const Joined& joined) { return Builder(trace, joined).build(); }

}  // namespace fusedmlp::trace
