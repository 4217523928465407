// Asynchronous copies from global to shared memory (sm_80).
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::ptx {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes, past L1, or zeros unless `inside`. Both addresses are 16-byte aligned.
__device__ __forceinline__ void cp_async_16(std::uint32_t shared, const void* global, bool inside) {
  asm volatile(
      "{\n.reg .pred outside;\nsetp.eq.s32 outside, %2, 0;\n"
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, outside;\n}" ::"r"(shared),
      "l"(global), "r"(static_cast<int>(inside))
      : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's newest groups are under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace fusedmlp::cuda::ptx
