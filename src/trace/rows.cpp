#include "trace/rows.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "trace/interval_union.h"
#include "trace/kernel_name.h"

namespace fusedmlp::trace {
namespace {

double microseconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-3; }

auto key(const Instance& i) {
  return std::tie(i.kind, i.gated, i.tokens, i.d_in, i.d_hidden, i.d_out, i.dtype, i.bias, i.phase, i.experts,
                  i.top_k);
}

// Kernels alone, or the ops that stand in for them: memcpys and memsets are no launches.
std::vector<Part> launches(const Trace& trace, const Instance& instance) {
  std::vector<Part> out;
  for (const Part& part : instance.parts) {
    const Category category = trace.events[part.event].category;
    if (category == Category::kernel || category == Category::cpu_op) out.push_back(part);
  }
  return out;
}

void add_times(const Trace& trace, const std::vector<Part>& parts, std::int64_t zero, MlpRow& row) {
  std::vector<Interval> busy;
  std::int64_t sum = 0;
  for (const Part& part : parts) {
    const Event& event = trace.events[part.event];
    busy.push_back({event.start, event.end()});
    sum += event.duration;
  }
  Interval span = busy.front();
  for (const Interval& interval : busy) {
    span.begin = std::min(span.begin, interval.begin);
    span.end = std::max(span.end, interval.end);
  }
  row.launches_per_instance += static_cast<double>(parts.size());
  row.us_per_instance += microseconds(sum);
  row.span_us_per_instance += microseconds(span.length());
  row.gap_us_per_instance += microseconds(span.length() - covered(std::move(busy)));
  row.starts_us.push_back(microseconds(span.begin - zero));
}

// Instances whose kernels have the same names in the same order; the most frequent order stands for the row.
using Names = std::vector<std::uint32_t>;

void describe_kernels(const Trace& trace, const std::vector<std::vector<Part>>& all, const Occupancy& occupancy,
                      MlpRow& row) {
  std::map<Names, std::vector<std::size_t>> orders;
  for (std::size_t i = 0; i < all.size(); ++i) {
    Names names;
    for (const Part& part : all[i]) names.push_back(trace.events[part.event].name);
    orders[std::move(names)].push_back(i);
  }
  const auto& [names, members] = *std::max_element(
      orders.begin(), orders.end(), [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  row.kernels.resize(names.size());
  const double share = 1.0 / static_cast<double>(members.size());
  for (const std::size_t member : members) {
    const std::vector<Part>& parts = all[member];
    const std::int64_t begin = trace.events[parts.front().event].start;
    std::int64_t covered_to = begin;
    for (std::size_t k = 0; k < parts.size(); ++k) {
      const Event& event = trace.events[parts[k].event];
      MlpKernel& kernel = row.kernels[k];
      kernel.role = parts[k].role;
      kernel.start_us += share * microseconds(event.start - begin);
      kernel.us += share * microseconds(event.duration);
      kernel.gap_us += share * microseconds(std::max<std::int64_t>(0, event.start - covered_to));
      covered_to = std::max(covered_to, event.end());
    }
  }
  for (std::size_t k = 0; k < names.size(); ++k) {
    MlpKernel& kernel = row.kernels[k];
    const Event& event = trace.events[all[members.front()][k].event];
    kernel.name = trace.text(names[k]);
    if (event.category != Category::kernel) continue;
    kernel.decoded = decode(kernel.name).words;
    kernel.occupancy = occupancy(event);
    if (event.args == kNone) continue;
    const DeviceArgs& args = trace.device_args[event.args];
    for (int d = 0; d < 3; ++d) {
      if (args.grid[d] >= 0) kernel.grid[d] = args.grid[d];
      if (args.block[d] >= 0) kernel.block[d] = args.block[d];
    }
  }
  std::stable_sort(row.kernels.begin(), row.kernels.end(),
                   [](const MlpKernel& a, const MlpKernel& b) { return a.start_us < b.start_us; });
}

Row make_row(const Trace& trace, std::vector<const Instance*> instances, std::int64_t zero,
             const Occupancy& occupancy) {
  Row out;
  out.instances = std::move(instances);
  const Instance& first = *out.instances.front();
  MlpRow& row = out.row;
  row.kind = first.kind;
  row.gated = first.gated;
  row.tokens = first.tokens;
  row.d_in = first.d_in;
  row.d_hidden = first.d_hidden;
  row.d_out = first.d_out;
  row.dtype = first.dtype;
  row.bias = first.bias;
  row.phase = first.phase;
  row.experts = first.experts;
  row.top_k = first.top_k;
  std::vector<std::vector<Part>> all;
  for (const Instance* instance : out.instances) {
    all.push_back(launches(trace, *instance));
    add_times(trace, all.back(), zero, row);
    row.confidence += instance->confidence;
  }
  row.instances = static_cast<std::int64_t>(all.size());
  const double count = static_cast<double>(all.size());
  for (double* mean : {&row.launches_per_instance, &row.us_per_instance, &row.span_us_per_instance,
                       &row.gap_us_per_instance, &row.confidence}) {
    *mean /= count;
  }
  std::sort(row.starts_us.begin(), row.starts_us.end());
  describe_kernels(trace, all, occupancy, row);
  return out;
}

}  // namespace

std::vector<Row> make_rows(const Trace& trace, const std::vector<Instance>& instances, std::int64_t zero,
                           const Occupancy& occupancy) {
  using Key = decltype(key(instances.front()));
  std::map<Key, std::vector<const Instance*>> groups;
  for (const Instance& instance : instances) {
    if (!launches(trace, instance).empty()) groups[key(instance)].push_back(&instance);
  }
  std::vector<Row> rows;
  rows.reserve(groups.size());
  for (auto& [unused, members] : groups) rows.push_back(make_row(trace, std::move(members), zero, occupancy));
  const auto total = [](const Row& r) { return r.row.us_per_instance * static_cast<double>(r.row.instances); };
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) { return total(a) > total(b); });
  return rows;
}

}  // namespace fusedmlp::trace
