#include "trace/join.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "trace/graph_join.h"

namespace fusedmlp::trace {
namespace {

bool is_host(Category category) {
  return category == Category::cpu_op || category == Category::user_annotation || category == Category::runtime ||
         category == Category::python_function;
}

bool is_device(Category category) {
  return category == Category::kernel || category == Category::memcpy || category == Category::memset;
}

// Files of 2021 cut starts and durations down to whole microseconds each, so that a child may seem to end up to one
// later than its parent.
std::int64_t nesting_slack(const Trace& trace) {
  const bool whole = std::all_of(trace.events.begin(), trace.events.end(), [](const Event& event) {
    return event.start % 1000 == 0 && event.duration % 1000 == 0;
  });
  return whole ? 1000 : 0;
}

// The innermost enclosing op or annotation of each host event.
std::vector<std::uint32_t> parents(const Trace& trace) {
  const std::int64_t slack = nesting_slack(trace);
  std::vector<std::uint32_t> parent(trace.events.size(), kNone);
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> open;  // by pid and tid
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    const Event& event = trace.events[i];
    if (!is_host(event.category)) continue;
    std::vector<std::uint32_t>& stack = open[(std::uint64_t{event.pid} << 32) | event.tid];
    const auto encloses = [&](const Event& outer) {
      return outer.end() + slack >= event.end() && (outer.end() > event.start || outer.start == event.start);
    };
    while (!stack.empty() && !encloses(trace.events[stack.back()])) stack.pop_back();
    if (!stack.empty()) parent[i] = stack.back();
    if (event.category == Category::cpu_op || event.category == Category::user_annotation) stack.push_back(i);
  }
  return parent;
}

// Events by an id that several may bear: ranks put into one file count their ids each from the start.
class IdIndex {
 public:
  void add(std::int64_t id, std::uint32_t event) {
    if (id > 0) entries_.emplace_back(id, event);
  }
  void sort() { std::sort(entries_.begin(), entries_.end()); }

  // In order of start.
  std::pair<const std::pair<std::int64_t, std::uint32_t>*, const std::pair<std::int64_t, std::uint32_t>*> find(
      std::int64_t id) const {
    const auto [first, last] = std::equal_range(entries_.begin(), entries_.end(), std::pair(id, std::uint32_t{0}),
                                                [](const auto& a, const auto& b) { return a.first < b.first; });
    return {entries_.data() + (first - entries_.begin()), entries_.data() + (last - entries_.begin())};
  }

 private:
  std::vector<std::pair<std::int64_t, std::uint32_t>> entries_;
};

class Joiner {
 public:
  explicit Joiner(const Trace& trace) : trace_(trace) {}

  Joined run() {
    joined_.parent = parents(trace_);
    for (std::uint32_t i = 0; i < trace_.events.size(); ++i) {
      const Event& event = trace_.events[i];
      if (event.category == Category::cpu_op) {
        ops_.add(trace_.op_args[event.args].external_id, i);
      } else if (event.category == Category::runtime) {
        calls_.add(trace_.runtime_args[event.args].correlation, i);
      } else if (is_device(event.category)) {
        joined_.links.push_back({i, kNone, kNone, JoinedBy::none, 0});
      }
    }
    ops_.sort();
    calls_.sort();
    // Ids that only one call bears tell which process drives which device; that tells the others.
    for (const bool ambiguous : {false, true}) {
      for (Link& link : joined_.links) find_call(link, ambiguous);
    }
    for (Link& link : joined_.links) find_op(link);
    join_replays(trace_, joined_);
    return std::move(joined_);
  }

 private:
  const DeviceArgs& args_of(const Link& link) const { return trace_.device_args[trace_.events[link.event].args]; }

  void find_call(Link& link, bool ambiguous) {
    const auto [first, last] = calls_.find(args_of(link).correlation);
    if (first == last || (last - first > 1) != ambiguous) return;
    const Event& work = trace_.events[link.event];
    std::uint32_t& process = process_of_device_.try_emplace(work.pid, kNone).first->second;
    if (!ambiguous) {
      link.runtime = first->second;
      process = trace_.events[link.runtime].pid;
      return;
    }
    for (const auto* entry = first; entry != last; ++entry) {
      const Event& call = trace_.events[entry->second];
      if (call.start > work.start) break;
      if (process == kNone || call.pid == process || link.runtime == kNone) link.runtime = entry->second;
    }
  }

  void find_op(Link& link) const {
    if (is_replayed(trace_, link)) return;
    const std::uint32_t around = link.runtime == kNone ? kNone : enclosing_op(trace_, joined_.parent, link.runtime);
    const auto [first, last] = ops_.find(args_of(link).external_id);
    if (around != kNone) {
      // The call's own thread tells the innermost op; the id confirms or denies it.
      const bool confirmed =
          std::any_of(first, last, [&](const auto& entry) { return contains(entry.second, around); });
      set(link, around, confirmed ? JoinedBy::external_id : JoinedBy::correlation,
          confirmed       ? 1.0F
          : first == last ? 0.9F
                          : 0.7F);
    } else if (first != last) {
      // The last of them that began before the work.
      const std::int64_t start = trace_.events[link.event].start;
      const auto* found = first;
      while (found + 1 != last && trace_.events[(found + 1)->second].start <= start) ++found;
      set(link, found->second, JoinedBy::external_id, last - first == 1 ? 1.0F : 0.8F);
    }
  }

  // Whether `outer` is `inner` or around it.
  bool contains(std::uint32_t outer, std::uint32_t inner) const {
    while (inner != kNone && inner != outer) inner = joined_.parent[inner];
    return inner == outer;
  }

  static void set(Link& link, std::uint32_t op, JoinedBy how, float confidence) {
    link.op = op;
    link.how = how;
    link.confidence = confidence;
  }

  const Trace& trace_;
  Joined joined_;
  IdIndex ops_, calls_;
  std::unordered_map<std::uint32_t, std::uint32_t> process_of_device_;  // by the pid of the device's rows
};

}  // namespace

Joined join(const Trace& trace) { return Joiner(trace).run(); }

}  // namespace fusedmlp::trace
