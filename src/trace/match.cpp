#include "trace/match.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "core/format.h"
#include "trace/backward.h"
#include "trace/candidate.h"
#include "trace/experts.h"
#include "trace/instances.h"
#include "trace/node.h"
#include "trace/whole_op.h"

namespace fusedmlp::trace {
namespace {

class Matcher {
 public:
  Matcher(const Trace& trace, const Joined& joined)
      : trace_(trace), nodes_(make_nodes(trace, joined)), instances_(trace, nodes_) {}

  Matches match() {
    for (const Lane& lane : nodes_.lanes) match_lane(lane);
    match_backward();
    count_stumps();
    warn();
    return std::move(result_);
  }

 private:
  void match_lane(const Lane& lane) {
    LaneMatches found = find_mlps(lane.nodes);
    hidden_ += found.hidden_activations;
    stumps_.insert(stumps_.end(), found.stumps.begin(), found.stumps.end());
    for (ExpertGroup& group : group_experts(lane.nodes, found.candidates)) {
      if (lane.kernels) group.candidate.confidence *= 0.85;  // no op says that these belong together
      add(lane, group);
    }
    for (const Node& node : lane.nodes) {
      if (node.op_class != OpClass::whole) continue;
      std::optional<Instance> instance = whole_op(trace_, nodes_, node, instances_);
      if (!instance) continue;
      ForwardRange range{.pid = lane.pid, .instance = result_.instances.size()};
      range.first = range.gate = range.last = sequence(node.event);  // its backward is one autograd node
      finish(std::move(*instance));
      if (range.first >= 0 && result_.instances.size() > range.instance) ranges_.push_back(range);
    }
  }

  void add(const Lane& lane, const ExpertGroup& group) {
    Instance instance = instances_.describe(group.candidate);
    bool whole = true;
    std::size_t next = group.members.front().first;
    for (const Candidate& member : group.members) {
      for (; next < member.first; ++next) instances_.add_node(lane.nodes[next], Role::routing, instance.parts);
      whole &= instances_.collect(lane, member, instance.parts);
      next = member.last + 1;
    }
    shapes_.emplace(instance.d_in, instance.d_hidden, instance.d_out);
    if (!whole) {
      if (!captured(lane, group)) ++incomplete_;
      return;
    }
    const Node& first = lane.nodes[group.members.front().first];
    const Node& gate = lane.nodes[group.members.front().gate];
    const Node& down = lane.nodes[group.members.back().down];
    if (gate.is_op && down.is_op) {
      ForwardRange range{.pid = lane.pid, .instance = result_.instances.size()};
      range.first = sequence(first.group != kNone ? first.group : first.event);
      range.gate = sequence(gate.event);
      range.last = sequence(down.event);
      if (range.first >= 0 && range.last >= range.first) ranges_.push_back(range);
    }
    finish(std::move(instance));
  }

  // Ops recorded into a graph launch nothing themselves; the replays are instances of their own.
  static bool captured(const Lane& lane, const ExpertGroup& group) {
    return std::any_of(group.members.begin(), group.members.end(),
                       [&](const Candidate& member) { return lane.nodes[member.down].captured; });
  }

  std::int64_t sequence(std::uint32_t event) const {
    const Event& op = trace_.events[event];
    return op.category == Category::cpu_op && op.args != kNone ? trace_.op_args[op.args].sequence : -1;
  }

  void finish(Instance instance) {
    if (instance.parts.empty()) return;
    instances_.sort(instance.parts);
    instances_.refine_number(instance);
    result_.instances.push_back(std::move(instance));
  }

  void match_backward() {
    BackwardMatches found = find_backward(trace_, nodes_, ranges_, result_.instances, instances_);
    incomplete_ += found.incomplete;
    compiled_ = found.compiled;
    for (Instance& instance : found.instances) finish(std::move(instance));
  }

  // A stump counts only where the trace shows elsewhere that its product belongs to an MLP.
  void count_stumps() {
    for (const Stump& stump : stumps_) {
      const bool seen = std::any_of(shapes_.begin(), shapes_.end(), [&](const auto& shape) {
        const auto& [d_in, d_hidden, d_out] = shape;
        if (stump.k < 0 || stump.n < 0) return true;
        if (stump.tail) return stump.k == d_hidden && stump.n == d_out;
        return stump.k == d_in && (stump.n == d_hidden || (d_hidden && stump.n == 2 * *d_hidden));
      });
      if (seen) ++incomplete_;
    }
  }

  void warn() {
    if (incomplete_ > 0) {
      result_.warnings.push_back(core::format("{} MLP{} left out: the trace holds only a part of {}", incomplete_,
                                              incomplete_ == 1 ? "" : "s", incomplete_ == 1 ? "it" : "each"));
    }
    if (compiled_ > 0) {
      result_.warnings.push_back(core::format(
          "{} backward pass{} of compiled graphs {} not searched for MLPs: one op holds the gradients of all layers",
          compiled_, compiled_ == 1 ? "" : "es", compiled_ == 1 ? "was" : "were"));
    }
    if (hidden_ > 0) {
      result_.warnings.push_back(core::format(
          "{} pair{} of products in compiled CPU code {} the shapes of an MLP, but the code between leaves no event, "
          "so "
          "the activation is not known and {} left out; with torch._inductor.config.cpp.enable_kernel_profile = True "
          "it is recorded",
          hidden_, hidden_ == 1 ? "" : "s", hidden_ == 1 ? "has" : "have", hidden_ == 1 ? "it is" : "they are"));
    }
  }

  const Trace& trace_;
  Nodes nodes_;
  Instances instances_;
  std::vector<Stump> stumps_;
  std::vector<ForwardRange> ranges_;
  std::set<std::tuple<std::optional<std::int64_t>, std::optional<std::int64_t>, std::optional<std::int64_t>>> shapes_;
  std::int64_t incomplete_ = 0;
  std::int64_t hidden_ = 0;
  std::int64_t compiled_ = 0;  // backward passes of compiled graphs
  Matches result_;
};

}  // namespace

Matches match(const Trace& trace, const Joined& joined) { return Matcher(trace, joined).match(); }

}  // namespace fusedmlp::trace
