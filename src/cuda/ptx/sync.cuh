// Warps, warpgroups and shared memory by 32-bit address.
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::ptx {

// True in one lane of a converged warp; the compiler knows that the rest of the warp skips the branch.
__device__ inline bool elect_one() {
  std::uint32_t elected;
  asm volatile("{\n .reg .pred p;\n elect.sync _|p, 0xffffffff;\n selp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

template <int Registers>
__device__ inline void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

template <int Registers>
__device__ inline void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

// Named barriers 1..15; 0 is __syncthreads.
__device__ inline void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Four 8x8 matrices of 16-bit elements from registers; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline void store_matrix_x4(std::uint32_t shared, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                       std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}

__device__ inline void store_shared(std::uint32_t shared, float v) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared), "f"(v) : "memory");
}

__device__ inline void store_shared_pair(std::uint32_t shared, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(shared), "f"(a), "f"(b) : "memory");
}

__device__ inline float2 load_shared_pair(std::uint32_t shared) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(shared) : "memory");
  return v;
}

__device__ inline float4 load_shared_quad(std::uint32_t shared) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(shared)
               : "memory");
  return v;
}

}  // namespace fusedmlp::cuda::ptx
