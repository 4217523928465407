// Where the span of an MLP goes.
#pragma once

#include <map>
#include <vector>

#include "trace/host_time.h"
#include "trace/match.h"

namespace fusedmlp::trace {

class SpanParts {
 public:
  SpanParts(const Trace& trace, const Joined& joined);

  // Of the mean instance; its parts sum up to the mean span from the first kernel's start to the last one's end.
  // A moment that two parts cover counts once: as product before intermediate before other. Kernels, copies and
  // sets of the same device that are not the MLP's count as other.
  Breakdown breakdown(const std::vector<const Instance*>& instances) const;

 private:
  struct DeviceTime {
    std::vector<std::uint32_t> events;  // in order of start
    std::vector<Interval> busy;         // united
  };

  void add(const Instance& instance, double share, Breakdown& breakdown) const;
  std::uint32_t event_at(const DeviceTime& device, std::int64_t start) const;  // kNone: none starts there

  const Trace& trace_;
  HostTime host_;
  std::map<std::int32_t, DeviceTime> devices_;
};

}  // namespace fusedmlp::trace
