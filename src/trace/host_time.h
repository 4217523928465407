// What the host did while the GPU waited.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "fusedmlp/analysis.h"
#include "trace/interval_union.h"
#include "trace/join.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

class HostTime {
 public:
  HostTime(const Trace& trace, const Joined& joined);

  // Adds the idle time before a device event to the breakdown's gaps, in microseconds times `share`.
  // The event's launch began before the GPU fell idle: the device's own latency, other_gap. Else, by what its thread
  // did in the gap until the launch ended: a synchronisation, a first call (module load, allocation, the profiler's
  // start), else the launch itself, whose latency on the device is the launch's too. A millisecond and more of it
  // before the first event of its name in the trace is a first call as well: libraries load without an event.
  // No launch is known: other_gap.
  void attribute(Interval gap, std::uint32_t device_event, double share, Breakdown& breakdown) const;

 private:
  using Thread = std::pair<std::uint32_t, std::uint32_t>;  // pid, tid

  const Trace& trace_;
  const Joined& joined_;
  std::vector<std::uint32_t> link_of_;  // by event; kNone: no device event
  std::map<Thread, std::vector<Interval>> sync_, warmup_;
  std::vector<bool> first_of_name_;                        // by event; device events only
  std::vector<Interval> profiler_start_, profiler_other_;  // of any thread
};

}  // namespace fusedmlp::trace
