#include "trace/breakdown.h"

#include <algorithm>
#include <limits>

namespace fusedmlp::trace {
namespace {

bool is_product(Role role) {
  // A split-K sum is the end of its product.
  return role == Role::gate || role == Role::up || role == Role::gate_up || role == Role::down ||
         role == Role::reduce;
}

bool is_intermediate(Role role) {
  return role == Role::activation || role == Role::multiply || role == Role::bias || role == Role::cast;
}

bool counts(const Event& event) { return event.category == Category::kernel || event.category == Category::cpu_op; }

}  // namespace

SpanParts::SpanParts(const Trace& trace, const Joined& joined) : trace_(trace), host_(trace, joined) {
  for (const Link& link : joined.links) {
    const Event& event = trace.events[link.event];
    DeviceTime& device = devices_[event.args == kNone ? -1 : trace.device_args[event.args].device];
    device.events.push_back(link.event);
    device.busy.push_back({event.start, event.end()});
  }
  for (auto& [id, device] : devices_) device.busy = united(std::move(device.busy));
}

Breakdown SpanParts::breakdown(const std::vector<const Instance*>& instances) const {
  Breakdown out;
  for (const Instance* instance : instances) add(*instance, 1.0 / static_cast<double>(instances.size()), out);
  return out;
}

void SpanParts::add(const Instance& instance, double share, Breakdown& breakdown) const {
  std::vector<Interval> products;
  std::vector<Interval> wanted;  // products and intermediate passes
  std::vector<Interval> all;
  Interval span{std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()};
  std::int32_t device = -1;
  bool on_device = false;
  for (const Part& part : instance.parts) {
    const Event& event = trace_.events[part.event];
    if (!counts(event)) continue;
    const Interval interval{event.start, event.end()};
    span = {std::min(span.begin, interval.begin), std::max(span.end, interval.end)};
    if (is_product(part.role)) products.push_back(interval);
    if (is_product(part.role) || is_intermediate(part.role)) wanted.push_back(interval);
    all.push_back(interval);
    if (event.category != Category::kernel) continue;
    on_device = true;
    if (event.args != kNone) device = trace_.device_args[event.args].device;
  }
  if (all.empty()) return;
  const double scale = share * 1e-3;
  const std::int64_t in_products = covered(products);
  const std::int64_t in_wanted = covered(wanted);
  breakdown.gemm_us += scale * static_cast<double>(in_products);
  breakdown.intermediate_us += scale * static_cast<double>(in_wanted - in_products);
  // Whatever else the device did in the span, and the events that end its idle times.
  const auto found = on_device ? devices_.find(device) : devices_.end();
  if (found != devices_.end()) {
    const std::vector<Interval>& busy = found->second.busy;
    auto at = std::lower_bound(busy.begin(), busy.end(), span.begin,
                               [](const Interval& interval, std::int64_t begin) { return interval.end <= begin; });
    for (; at != busy.end() && at->begin < span.end; ++at) {
      all.push_back({std::max(at->begin, span.begin), std::min(at->end, span.end)});
    }
  }
  const std::vector<Interval> idle = gaps(all, span);
  breakdown.other_us += scale * static_cast<double>(covered(all) - in_wanted);
  for (const Interval& gap : idle) {
    const std::uint32_t next = found == devices_.end() ? kNone : event_at(found->second, gap.end);
    if (next == kNone) {
      breakdown.other_gap_us += scale * static_cast<double>(gap.length());
    } else {
      host_.attribute(gap, next, share, breakdown);
    }
  }
}

std::uint32_t SpanParts::event_at(const DeviceTime& device, std::int64_t start) const {
  const auto at = std::lower_bound(
      device.events.begin(), device.events.end(), start,
      [this](std::uint32_t event, std::int64_t wanted) { return trace_.events[event].start < wanted; });
  return at != device.events.end() && trace_.events[*at].start == start ? *at : kNone;
}

}  // namespace fusedmlp::trace
