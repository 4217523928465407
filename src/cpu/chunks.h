// Work handed out in chunks, for threads that are not equally fast: a busy sibling of a core halves its AMX rate.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

#include "cpu/partition.h"
#include "cpu/scratch.h"

namespace fusedmlp::cpu {

// The parts of a split in chunks of `chunk` units. Task `index` takes its own part's in order, and then what other
// tasks have not come to. Who computes a chunk must change nothing in its bits.
class Chunks {
 public:
  Chunks(Scratch& scratch, const Split& parts, std::int64_t chunk)
      : parts_(parts), chunk_(std::max<std::int64_t>(1, chunk)) {
    std::byte* counters = scratch.bytes(static_cast<std::size_t>(parts.parts()) * sizeof(Counter));
    next_ = reinterpret_cast<Counter*>(counters);
    if (!scratch.measures()) {
      for (std::int64_t i = 0; i < parts.parts(); ++i) new (next_ + i) Counter;
    }
  }

  // The largest one.
  std::int64_t chunk() const { return std::min(chunk_, parts_.largest()); }

  // The next one, empty when none is left.
  Range take(int index) const {
    for (std::int64_t i = 0; i < parts_.parts(); ++i) {
      const std::int64_t part = (index + i) % parts_.parts();
      const Range all = parts_[part];
      const std::int64_t begin = all.begin + next_[part].units.fetch_add(chunk_, std::memory_order_relaxed);
      if (begin < all.end) return {begin, std::min(begin + chunk_, all.end)};
    }
    return {};
  }

 private:
  struct alignas(64) Counter {
    std::atomic<std::int64_t> units{0};  // taken of the part
  };

  Split parts_;
  std::int64_t chunk_;
  Counter* next_;
};

}  // namespace fusedmlp::cpu
