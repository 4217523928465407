#include "trace/graph_join.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace fusedmlp::trace {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// An op and how sure it is that it recorded a piece of work.
struct Recorded {
  std::uint32_t op = kNone;
  float confidence = 0;
};

// What tells one kernel from another without its arguments. Equal kernels get equal numbers.
class KernelNumbers {
 public:
  explicit KernelNumbers(const Trace& trace) : trace_(trace) {}

  std::uint32_t operator()(const Link& link) {
    const Event& event = trace_.events[link.event];
    const DeviceArgs& args = trace_.device_args[event.args];
    const Key key{event.name, args.grid[0], args.grid[1], args.grid[2], args.block[0], args.block[1], args.block[2]};
    return numbers_.try_emplace(key, static_cast<std::uint32_t>(numbers_.size())).first->second;
  }

 private:
  using Key =
      std::tuple<std::uint32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t>;
  const Trace& trace_;
  std::map<Key, std::uint32_t> numbers_;
};

// The end of the last place in `text` where `pattern` lies, or -1 (Knuth, Morris, Pratt 1977).
std::int64_t find_last(const std::vector<std::uint32_t>& text, const std::vector<std::uint32_t>& pattern) {
  std::vector<std::size_t> border(pattern.size() + 1,
                                  0);  // of the first n: the longest proper prefix that is a suffix
  for (std::size_t i = 1, length = 0; i < pattern.size(); ++i) {
    while (length > 0 && pattern[i] != pattern[length]) length = border[length];
    if (pattern[i] == pattern[length]) ++length;
    border[i + 1] = length;
  }
  std::int64_t found = -1;
  for (std::size_t i = 0, length = 0; i < text.size(); ++i) {
    while (length > 0 && (length == pattern.size() || text[i] != pattern[length])) length = border[length];
    if (text[i] == pattern[length]) ++length;
    if (length == pattern.size()) found = static_cast<std::int64_t>(i) + 1;
  }
  return found;
}

class ReplayJoiner {
 public:
  ReplayJoiner(const Trace& trace, Joined& joined) : trace_(trace), joined_(joined), number_(trace) {}

  void run() {
    collect();
    if (replays_.empty()) return;
    find_captures();
    for (const std::vector<std::uint32_t>& replay : replays_) join(replay);
  }

 private:
  // One replay: its links in order of start. Work of one launch has one correlation.
  void collect() {
    std::map<std::pair<std::uint32_t, std::int64_t>, std::size_t> of_launch;
    for (std::uint32_t i = 0; i < joined_.links.size(); ++i) {
      const Link& link = joined_.links[i];
      const Event& event = trace_.events[link.event];
      const DeviceArgs& args = trace_.device_args[event.args];
      executed_.insert(args.correlation);
      if (!is_replayed(trace_, link)) {
        if (link.op == kNone) continue;
        EagerStream& eager = eager_[{event.pid, args.stream}];
        eager.numbers.push_back(number_(link));
        eager.ops.push_back(link.op);
        continue;
      }
      const auto [at, fresh] = of_launch.try_emplace({link.runtime, args.correlation}, replays_.size());
      if (fresh) replays_.emplace_back();
      replays_[at->second].push_back(i);
    }
  }

  // The launches between the begin and the end of a capture run nothing: a graph will.
  void find_captures() {
    std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> open;  // by pid and tid: ops so far
    for (std::uint32_t i = 0; i < trace_.events.size(); ++i) {
      const Event& event = trace_.events[i];
      if (event.category != Category::runtime) continue;
      const std::string_view name = trace_.text(event.name);
      const std::uint64_t thread = (std::uint64_t{event.pid} << 32) | event.tid;
      if (contains(name, "StreamBeginCapture")) {
        open[thread].clear();
        continue;
      }
      const auto capture = open.find(thread);
      if (capture == open.end()) continue;
      if (contains(name, "StreamEndCapture")) {
        captures_[capture->second.size()].push_back({event.start, std::move(capture->second)});
        open.erase(capture);
      } else if (records_work(name) && !executed_.contains(trace_.runtime_args[event.args].correlation)) {
        capture->second.push_back(enclosing_op(trace_, joined_.parent, i));
      }
    }
  }

  static bool records_work(std::string_view call) {
    return (contains(call, "Launch") && !contains(call, "GraphLaunch") && !contains(call, "HostFunc")) ||
           contains(call, "Memcpy") || contains(call, "Memset");
  }

  void join(const std::vector<std::uint32_t>& replay) {
    JoinedBy how = JoinedBy::graph_node;
    std::vector<Recorded> recorded = by_nodes(replay);
    if (recorded.empty()) {
      how = JoinedBy::sequence;
      recorded = by_capture(replay);
    }
    if (recorded.empty()) recorded = by_eager_run(replay);
    for (std::size_t i = 0; i < recorded.size(); ++i) {
      if (recorded[i].op == kNone) continue;
      Link& link = joined_.links[replay[i]];
      link.op = recorded[i].op;
      link.how = how;
      link.confidence = recorded[i].confidence;
      if (const std::int64_t node = node_of(replay[i]); node > 0) nodes_.try_emplace(node, recorded[i]);
    }
  }

  std::int64_t node_of(std::uint32_t link) const {
    return trace_.device_args[trace_.events[joined_.links[link].event].args].graph_node;
  }

  std::vector<Recorded> by_nodes(const std::vector<std::uint32_t>& replay) const {
    std::vector<Recorded> out;
    for (const std::uint32_t link : replay) {
      const auto node = nodes_.find(node_of(link));
      if (node == nodes_.end()) return {};
      out.push_back(node->second);
    }
    return out;
  }

  // The last capture before the replay that recorded as much. Kernels in it have no names to compare.
  std::vector<Recorded> by_capture(const std::vector<std::uint32_t>& replay) const {
    const auto same_size = captures_.find(replay.size());
    if (same_size == captures_.end()) return {};
    const std::int64_t start = trace_.events[joined_.links[replay.front()].event].start;
    const Capture* found = nullptr;
    std::size_t candidates = 0;
    for (const Capture& capture : same_size->second) {
      if (capture.end > start) break;
      found = &capture;
      ++candidates;
    }
    std::vector<Recorded> out;
    if (found != nullptr) {
      for (const std::uint32_t op : found->ops) out.push_back({op, candidates == 1 ? 0.7F : 0.5F});
    }
    return out;
  }

  // The last eager run of the same kernels in the same order on one stream, such as a warm-up.
  std::vector<Recorded> by_eager_run(const std::vector<std::uint32_t>& replay) {
    if (replay.size() < 2) return {};  // one kernel is no sequence
    std::vector<std::uint32_t> pattern;
    for (const std::uint32_t link : replay) pattern.push_back(number_(joined_.links[link]));
    const auto [known, fresh] = eager_runs_.try_emplace(pattern);
    if (fresh) {
      for (const auto& [stream, eager] : eager_) {
        const std::int64_t end = find_last(eager.numbers, pattern);
        if (end < 0) continue;
        for (std::size_t i = 0; i < pattern.size(); ++i) {
          known->second.push_back({eager.ops[static_cast<std::size_t>(end) - pattern.size() + i], 0.6F});
        }
        break;
      }
    }
    return known->second;
  }

  struct EagerStream {
    std::vector<std::uint32_t> numbers, ops;
  };
  struct Capture {
    std::int64_t end = 0;
    std::vector<std::uint32_t> ops;
  };

  const Trace& trace_;
  Joined& joined_;
  KernelNumbers number_;
  std::vector<std::vector<std::uint32_t>> replays_;
  std::unordered_set<std::int64_t> executed_;  // correlations that ran something
  std::map<std::pair<std::uint32_t, std::int64_t>, EagerStream> eager_;
  std::map<std::size_t, std::vector<Capture>> captures_;  // by the number of launches, in order of time
  std::unordered_map<std::int64_t, Recorded> nodes_;
  std::map<std::vector<std::uint32_t>, std::vector<Recorded>> eager_runs_;
};

}  // namespace

bool is_replayed(const Trace& trace, const Link& link) {
  return trace.device_args[trace.events[link.event].args].graph_node > 0 ||
         (link.runtime != kNone && contains(trace.text(trace.events[link.runtime].name), "GraphLaunch"));
}

std::uint32_t enclosing_op(const Trace& trace, const std::vector<std::uint32_t>& parent, std::uint32_t event) {
  std::uint32_t op = parent[event];
  while (op != kNone && trace.events[op].category != Category::cpu_op) op = parent[op];
  return op;
}

void join_replays(const Trace& trace, Joined& joined) { ReplayJoiner(trace, joined).run(); }

}  // namespace fusedmlp::trace
