// Drawing global memory into L2.
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::ptx {

// `bytes` from `global` on, both multiples of 16. No value is kept, so a later write is seen by a later read. sm_90
// and newer; nothing elsewhere.
__device__ __forceinline__ void prefetch_l2([[maybe_unused]] const void* global,
                                            [[maybe_unused]] std::uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes) : "memory");
#endif
}

}  // namespace fusedmlp::cuda::ptx
