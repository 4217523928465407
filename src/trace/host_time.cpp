#include "trace/host_time.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace fusedmlp::trace {
namespace {

bool holds_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [text](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

// cudaDeviceSynchronize, cudaStreamSynchronize, cudaEventSynchronize, and copies that return when they are done.
bool is_sync(std::string_view name) {
  return holds_any(name, {"Synchronize"}) || name == "cudaMemcpy" || name == "hipMemcpy" ||
         name == "hipMemcpyWithStream";
}

// Calls of a first step that later steps do without.
bool is_warmup(std::string_view name) {
  return holds_any(name,
                   {"Malloc", "Free", "HostAlloc", "HostRegister", "ModuleLoad", "LibraryLoad", "GraphInstantiate"});
}

// Eager PyTorch needs 60 to 95 us of host time for a whole MLP (H200 measurements): far below this.
constexpr std::int64_t kFirstCall = 1'000'000;  // ns

std::int64_t overlap(const std::vector<Interval>& disjoint, Interval span) {
  auto at = std::upper_bound(disjoint.begin(), disjoint.end(), span.begin,
                             [](std::int64_t begin, const Interval& i) { return begin < i.end; });
  std::int64_t sum = 0;
  for (; at != disjoint.end() && at->begin < span.end; ++at) {
    sum += std::min(at->end, span.end) - std::max(at->begin, span.begin);
  }
  return sum;
}

}  // namespace

HostTime::HostTime(const Trace& trace, const Joined& joined)
    : trace_(trace), joined_(joined), link_of_(trace.events.size(), kNone), first_of_name_(trace.events.size()) {
  std::vector<bool> seen(trace.strings.size());
  for (std::uint32_t i = 0; i < joined.links.size(); ++i) {
    const std::uint32_t event = joined.links[i].event;
    link_of_[event] = i;
    const std::uint32_t name = trace.events[event].name;
    if (name == kNone || seen[name]) continue;
    seen[name] = true;
    first_of_name_[event] = true;
  }
  for (const Event& event : trace.events) {
    const std::string_view name = trace.text(event.name);
    const Interval interval{event.start, event.end()};
    if (event.category == Category::overhead) {
      // "Activity Buffer Request", "Lazy Function Loading", "Runtime Triggered Module Loading", "Instrumentation".
      const bool start = holds_any(name, {"Loading", "Request", "Instrumentation", "Resource"});
      (start ? profiler_start_ : profiler_other_).push_back(interval);
    } else if (event.category == Category::runtime) {
      if (is_sync(name))
        sync_[{event.pid, event.tid}].push_back(interval);
      else if (is_warmup(name))
        warmup_[{event.pid, event.tid}].push_back(interval);
    }
  }
  for (auto* threads : {&sync_, &warmup_}) {
    for (auto& [thread, intervals] : *threads) intervals = united(std::move(intervals));
  }
  profiler_start_ = united(std::move(profiler_start_));
  profiler_other_ = united(std::move(profiler_other_));
}

void HostTime::attribute(Interval gap, std::uint32_t device_event, double share, Breakdown& breakdown) const {
  const double scale = share * 1e-3;
  const std::uint32_t link = link_of_[device_event];
  const std::uint32_t launch = link == kNone ? kNone : joined_.links[link].runtime;
  if (launch == kNone || trace_.events[launch].end() <= gap.begin) {
    breakdown.other_gap_us += scale * static_cast<double>(gap.length());
    return;
  }
  const Event& call = trace_.events[launch];
  const Interval waited{gap.begin, std::min(call.end(), gap.end)};
  const auto of_thread = [&](const std::map<Thread, std::vector<Interval>>& threads) {
    const auto found = threads.find({call.pid, call.tid});
    return found == threads.end() ? std::int64_t{0} : overlap(found->second, waited);
  };
  std::int64_t left = gap.length();
  const auto take = [&left](std::int64_t wanted) {
    const std::int64_t taken = std::min(left, wanted);
    left -= taken;
    return static_cast<double>(taken);
  };
  breakdown.sync_gap_us += scale * take(of_thread(sync_));
  breakdown.warmup_gap_us += scale * take(of_thread(warmup_) + overlap(profiler_start_, waited));
  breakdown.other_gap_us += scale * take(overlap(profiler_other_, waited));
  const bool first_call = first_of_name_[device_event] && left >= kFirstCall;
  (first_call ? breakdown.warmup_gap_us : breakdown.launch_gap_us) += scale * static_cast<double>(left);
}

}  // namespace fusedmlp::trace
