// Work handed out in chunks, for threads that are not equally fast or come late: a busy sibling of a core halves its
// AMX rate, and a sleeping thread takes some 50 us to wake. Several of these are the stages of one parallel region.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <thread>

#include "cpu/partition.h"
#include "cpu/scratch.h"

namespace fusedmlp::cpu {

// The parts of a split in chunks of `chunk` units. Task `index` takes its own part's in order, and then what other
// tasks have not come to. Who computes a chunk must change nothing in its bits.
class Chunks {
 public:
  Chunks(Scratch& scratch, const Split& parts, std::int64_t chunk)
      : parts_(parts), chunk_(std::max<std::int64_t>(1, chunk)) {
    const std::int64_t counters = parts.parts() + 1;
    next_ = reinterpret_cast<Counter*>(scratch.bytes(static_cast<std::size_t>(counters) * sizeof(Counter)));
    if (!scratch.measures()) {
      for (std::int64_t i = 0; i < counters; ++i) new (next_ + i) Counter;
    }
  }

  // The largest one.
  std::int64_t chunk() const { return std::min(chunk_, parts_.largest()); }

  // The next one, empty when none is left.
  Range take(int index) const {
    for (std::int64_t i = 0; i < parts_.parts(); ++i) {
      const std::int64_t part = (index + i) % parts_.parts();
      const Range all = parts_[part];
      // A look first: what is used up stays in every core's cache.
      if (next_[part].units.load(std::memory_order_relaxed) >= all.size()) continue;
      const std::int64_t begin = all.begin + next_[part].units.fetch_add(chunk_, std::memory_order_relaxed);
      if (begin < all.end) return {begin, std::min(begin + chunk_, all.end)};
    }
    return {};
  }

  // compute(range) for every chunk that the task comes to.
  template <class Compute>
  void work(int index, const Compute& compute) const {
    std::int64_t units = 0;
    for (Range chunk = take(index); chunk.size() > 0; chunk = take(index)) {
      compute(chunk);
      units += chunk.size();
    }
    computed().fetch_add(units, std::memory_order_release);
  }

  // After work(): returns when every chunk is computed, with what was written there. Those that are waited for are
  // being computed by threads that run, so that this ends on any executor, also where tasks follow one another.
  void wait() const {
    int spins = 0;
    while (computed().load(std::memory_order_acquire) < parts_.units()) {
      if (spins < kSpins) {
        ++spins;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  static constexpr int kSpins = 1000;  // some 20 us

  struct alignas(64) Counter {
    std::atomic<std::int64_t> units{0};
  };

  std::atomic<std::int64_t>& computed() const { return next_[parts_.parts()].units; }

  Split parts_;
  std::int64_t chunk_;
  Counter* next_;  // units taken of each part, then those computed of all
};

}  // namespace fusedmlp::cpu
