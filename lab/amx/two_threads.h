// What the laboratory programs for AMX share: two pinned threads that run variants in turn, and random operands.
#pragma once

#include <immintrin.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

namespace lab {

using Clock = std::chrono::steady_clock;

inline bool allow_amx() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

// The nth CPU of those this process may run on.
inline void pin(int nth) {
  cpu_set_t all, one;
  CPU_ZERO(&all);
  sched_getaffinity(0, sizeof all, &all);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all) || nth-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

class Barrier {
 public:
  void wait() {
    const int phase = phase_.load();
    if (arrived_.fetch_add(1) == 1) {
      arrived_ = 0;
      ++phase_;
    }
    while (phase_.load() == phase) _mm_pause();
  }

 private:
  std::atomic<int> arrived_{0}, phase_{0};
};

// bf16 between 2^-3 and 2 in size: constant operands multiply faster than real ones.
inline void fill(std::byte* data, std::size_t bytes) {
  auto* values = reinterpret_cast<std::uint16_t*>(data);
  std::uint32_t random = 1;
  for (std::size_t i = 0; i < bytes / 2; ++i) {
    random = random * 1664525u + 1013904223u;
    values[i] = static_cast<std::uint16_t>((random >> 16 & 0x80ff) | (0x3e00 + (random >> 8 & 0x1ff)));
  }
}

// On huge pages.
inline std::byte* operands(std::size_t bytes) {
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const std::size_t rounded = (bytes + kHuge - 1) / kHuge * kHuge;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kHuge, rounded));
  madvise(data, rounded, MADV_HUGEPAGE);
  fill(data, rounded);
  return data;
}

struct Variant {
  const char* name;
  std::function<void(int thread)> run;
  double bytes = 0;  // of a thread
  double flops = 0;
  std::vector<double> seconds = {};
};

// Both threads run each variant in turn, `rounds` times or as long as `budget` seconds last.
inline void run_in_turn(std::vector<Variant>& variants, int rounds, double budget,
                        const std::function<void()>& begin) {
  Barrier barrier;
  std::atomic<bool> over{false};
  const auto work = [&](int thread) {
    pin(thread);
    begin();
    const auto first = Clock::now();
    for (int round = 0; round < rounds && !over; ++round) {
      for (Variant& v : variants) {
        barrier.wait();
        const auto start = Clock::now();
        v.run(thread);
        barrier.wait();
        if (thread == 0) v.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      }
      if (thread == 0 && std::chrono::duration<double>(Clock::now() - first).count() > budget) over = true;
      barrier.wait();
    }
  };
  std::thread other(work, 1);
  work(0);
  other.join();
}

inline double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

inline void report(const std::vector<Variant>& variants) {
  std::printf("%-58s %9s %9s %9s %8s %8s\n", "", "best us", "quarter", "median", "GB/s", "TFLOP/s");
  for (const Variant& v : variants) {
    const double quarter = percentile(v.seconds, 0.25);
    std::printf("%-58s %9.1f %9.1f %9.1f %8.1f %8.2f\n", v.name, percentile(v.seconds, 0) * 1e6, quarter * 1e6,
                percentile(v.seconds, 0.5) * 1e6, 2 * v.bytes / quarter * 1e-9, 2 * v.flops / quarter * 1e-12);
  }
}

}  // namespace lab
