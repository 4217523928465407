// Time covered by intervals that may overlap: kernels of several streams, or programmatic dependent launches on one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace fusedmlp::trace {

// Half open, nanoseconds.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t length() const { return end - begin; }
  friend bool operator==(const Interval&, const Interval&) = default;
};

// The same times as disjoint intervals that do not touch, in order. Empty ones vanish.
inline std::vector<Interval> united(std::vector<Interval> intervals) {
  std::erase_if(intervals, [](const Interval& i) { return i.end <= i.begin; });
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  std::vector<Interval> out;
  for (const Interval& next : intervals) {
    if (!out.empty() && next.begin <= out.back().end) {
      out.back().end = std::max(out.back().end, next.end);
    } else {
      out.push_back(next);
    }
  }
  return out;
}

// The time that at least one interval covers.
inline std::int64_t covered(std::vector<Interval> intervals) {
  std::int64_t sum = 0;
  for (const Interval& i : united(std::move(intervals))) sum += i.length();
  return sum;
}

// What of `span` no interval covers, in order.
inline std::vector<Interval> gaps(std::vector<Interval> intervals, Interval span) {
  std::vector<Interval> out;
  std::int64_t at = span.begin;
  for (const Interval& i : united(std::move(intervals))) {
    if (i.begin >= span.end) break;
    if (i.begin > at) out.push_back({at, i.begin});
    at = std::max(at, i.end);
  }
  if (at < span.end) out.push_back({at, span.end});
  return out;
}

}  // namespace fusedmlp::trace
