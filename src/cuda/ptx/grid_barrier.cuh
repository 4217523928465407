// Barriers between blocks that run side by side, through counters in global memory.
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::ptx {

// The first block adds 2^31 - (blocks - 1), every other 1: all together flip the top bit and leave the rest zero,
// whatever the number of blocks, so that the counter serves the next barrier as it is.

// What the counter is before this block has arrived: its top bit cannot flip until then.
__device__ __forceinline__ std::uint32_t barrier_state(const std::uint32_t* counter) {
  std::uint32_t state;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(state) : "l"(counter) : "memory");
  return state;
}

// For one thread of each of `blocks` blocks; `first` in exactly one of them. What the thread has seen written before
// is visible to who passes the barrier.
__device__ __forceinline__ void barrier_arrive(std::uint32_t* counter, int blocks, bool first) {
  const std::uint32_t add = first ? 0x80000000u - static_cast<std::uint32_t>(blocks - 1) : 1u;
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(add) : "memory");
}

// Until all have arrived.
__device__ __forceinline__ void barrier_wait(const std::uint32_t* counter, std::uint32_t before) {
  std::uint32_t now;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(counter) : "memory");
  } while (((now ^ before) & 0x80000000u) == 0);
}

}  // namespace fusedmlp::cuda::ptx
