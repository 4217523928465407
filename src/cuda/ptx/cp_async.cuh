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
      "cp.async.cg.shared.global [%0], [%1], 16, outside;\n}" ::"r"(shared),
      "l"(global), "r"(static_cast<int>(inside))
      : "memory");
}

// 16 bytes, past L1.
__device__ __forceinline__ void cp_async_16(std::uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

// 16 bytes, past L1: the first `bytes` (0 to 16) from global memory, the rest zeros.
__device__ __forceinline__ void cp_async_part(std::uint32_t shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's newest groups are under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// The same for a number known at run time, the same in all of a warp; for more than 15 it waits until 15 are.
__device__ __forceinline__ void cp_async_wait(int pending) {
  switch (pending) {
    case 0: return cp_async_wait<0>();
    case 1: return cp_async_wait<1>();
    case 2: return cp_async_wait<2>();
    case 3: return cp_async_wait<3>();
    case 4: return cp_async_wait<4>();
    case 5: return cp_async_wait<5>();
    case 6: return cp_async_wait<6>();
    case 7: return cp_async_wait<7>();
    case 8: return cp_async_wait<8>();
    case 9: return cp_async_wait<9>();
    case 10: return cp_async_wait<10>();
    case 11: return cp_async_wait<11>();
    case 12: return cp_async_wait<12>();
    case 13: return cp_async_wait<13>();
    case 14: return cp_async_wait<14>();
    default: return cp_async_wait<15>();
  }
}

}  // namespace fusedmlp::cuda::ptx
