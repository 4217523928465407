// The whole analysis: read, join, match, rows, assessment.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "fusedmlp/analysis.h"
#include "trace/assess.h"
#include "trace/interval_union.h"
#include "trace/join.h"
#include "trace/kernel_name.h"
#include "trace/match.h"
#include "trace/reader.h"
#include "trace/rows.h"

namespace fusedmlp {
inline namespace v0 {
namespace {

using trace::Category;
using trace::Event;
using trace::kNone;
using trace::Trace;

bool on_device(Category category) {
  return category == Category::kernel || category == Category::memcpy || category == Category::memset;
}

// What ran: device events; on a CPU-only trace the ops that no other op called.
std::vector<std::uint32_t> work(const Trace& trace, const trace::Joined& joined, bool cpu_only) {
  std::vector<std::uint32_t> events;
  for (const trace::Link& link : joined.links) events.push_back(link.event);
  if (!cpu_only) return events;
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    if (trace.events[i].category != Category::cpu_op) continue;
    const std::uint32_t up = joined.parent[i];
    if (up == kNone || trace.events[up].category != Category::cpu_op) events.push_back(i);
  }
  return events;
}

void add_span(const Trace& trace, const std::vector<std::uint32_t>& events, Analysis& analysis, std::int64_t& zero) {
  std::vector<trace::Interval> intervals;
  intervals.reserve(events.size());
  for (const std::uint32_t event : events) {
    intervals.push_back({trace.events[event].start, trace.events[event].end()});
  }
  if (intervals.empty()) return;
  trace::Interval span = intervals.front();
  for (const trace::Interval& interval : intervals) {
    span.begin = std::min(span.begin, interval.begin);
    span.end = std::max(span.end, interval.end);
  }
  zero = span.begin;
  analysis.gpu_span_us = static_cast<double>(span.length()) * 1e-3;
  analysis.gpu_busy_us = static_cast<double>(trace::covered(std::move(intervals))) * 1e-3;
}

// By name: device events, or on a CPU-only trace the ops that call no other.
void add_totals(const Trace& trace, const trace::Joined& joined, bool cpu_only, Analysis& analysis) {
  std::vector<bool> calls(cpu_only ? trace.events.size() : 0);
  for (std::uint32_t i = 0; i < calls.size(); ++i) {
    if (trace.events[i].category == Category::cpu_op && joined.parent[i] != kNone) calls[joined.parent[i]] = true;
  }
  std::unordered_map<std::uint32_t, NameTotal> totals;
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    const Event& event = trace.events[i];
    if (cpu_only ? event.category != Category::cpu_op || calls[i] : !on_device(event.category)) continue;
    NameTotal& total = totals[event.name];
    ++total.count;
    total.us += static_cast<double>(event.duration) * 1e-3;
  }
  for (auto& [name, total] : totals) {
    total.name = trace.text(name);
    if (!cpu_only) total.decoded = trace::decode(total.name).words;
    analysis.totals.push_back(std::move(total));
  }
  std::sort(analysis.totals.begin(), analysis.totals.end(),
            [](const NameTotal& a, const NameTotal& b) { return a.us != b.us ? a.us > b.us : a.name < b.name; });
}

void add_counts(const Trace& trace, Analysis& analysis) {
  std::int64_t steps = 0;
  for (const Event& event : trace.events) {
    analysis.kernels += event.category == Category::kernel;
    analysis.memcpys += event.category == Category::memcpy;
    analysis.memsets += event.category == Category::memset;
    // ProfilerStep#7; a GPU-side span of the same name is another category.
    steps += event.category == Category::user_annotation && trace.text(event.name).rfind("ProfilerStep", 0) == 0;
  }
  if (steps > 0) analysis.steps = steps;
}

// The device that ran the kernels; a file may list more.
void add_device(const Trace& trace, Analysis& analysis) {
  if (trace.devices.empty() || analysis.kernels + analysis.memcpys + analysis.memsets == 0) return;
  std::int64_t used = -1;
  for (const Event& event : trace.events) {
    if (event.category != Category::kernel || event.args == kNone) continue;
    used = trace.device_args[event.args].device;
    break;
  }
  const auto found = std::find_if(trace.devices.begin(), trace.devices.end(),
                                  [&](const trace::DeviceProperties& device) { return device.id == used; });
  analysis.device = (found != trace.devices.end() ? *found : trace.devices.front()).name;
}

// The sums over rows.
void add_row(const MlpRow& row, double saving_us, Analysis& analysis) {
  const double count = static_cast<double>(row.instances);
  analysis.mlp_us += count * row.us_per_instance;
  analysis.predicted_saving_us += count * saving_us;
  for (double Breakdown::*part :
       {&Breakdown::gemm_us, &Breakdown::intermediate_us, &Breakdown::other_us, &Breakdown::launch_gap_us,
        &Breakdown::sync_gap_us, &Breakdown::warmup_gap_us, &Breakdown::other_gap_us}) {
    analysis.breakdown.*part += count * row.breakdown.*part;
  }
}

}  // namespace

Result<Analysis> analyze(const std::string& path, const AnalyzeOptions& options) {
  Result<Trace> read =
      trace::read(path, {.python_functions = options.python_functions, .progress = options.progress});
  if (!read) return read.status();
  const Trace& trace = *read;
  const trace::Joined joined = trace::join(trace);
  const bool cpu_only = joined.links.empty();

  Analysis analysis;
  analysis.path = path;
  analysis.warnings = trace.warnings;
  add_counts(trace, analysis);
  add_device(trace, analysis);
  std::int64_t zero = 0;
  add_span(trace, work(trace, joined, cpu_only), analysis, zero);
  add_totals(trace, joined, cpu_only, analysis);

  const trace::Matches matches = trace::match(trace, joined);
  analysis.warnings.insert(analysis.warnings.end(), matches.warnings.begin(), matches.warnings.end());
  const Result<trace::Assessor> assessor = trace::Assessor::create(trace, joined, options);
  if (!assessor) return assessor.status();
  analysis.used = assessor->used();
  const auto occupancy = [&](const Event& kernel) { return assessor->occupancy(kernel); };
  for (trace::Row& row : trace::make_rows(trace, matches.instances, zero, occupancy)) {
    const double saving_us = assessor->assess(row.instances, row.row);
    add_row(row.row, saving_us, analysis);
    analysis.mlps.push_back(std::move(row.row));
  }
  return analysis;
}

}  // namespace v0
}  // namespace fusedmlp
