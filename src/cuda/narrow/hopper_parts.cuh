// What consumers of the Hopper narrow kernel do in registers.
#pragma once

#include <cstdint>

#include "cuda/common/numeric.cuh"
#include "cuda/narrow/hopper_tile.cuh"
#include "cuda/ptx/sync.cuh"
#include "cuda/ptx/tma.cuh"

namespace fusedmlp::cuda::narrow {

// A value that all lanes have, in a uniform register: what follows from it takes no lane's instructions.
__device__ __forceinline__ std::uint32_t uniform(std::uint32_t value) { return __reduce_max_sync(0xffffffff, value); }

// Keeps the compiler from moving uses of accumulators or operands across this point.
template <int kCount>
__device__ __forceinline__ void pin(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kPieces, int kCount>
__device__ __forceinline__ void pin(float (&d)[kPieces][kCount]) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) pin(d[i]);
}
template <int kCount>
__device__ __forceinline__ void pin(std::uint32_t* d) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// Biases of 16 columns: those of a lane, twice two neighbours.
__device__ __forceinline__ float4 load_bias(std::uint32_t table, int group) {
  return ptx::load_shared_quad(table + threadIdx.x % 4 * 16 + group * 64);
}

// A warp's 16 rows of outputs, accumulators times `scale` plus biases, to rows `row` on: kStaged times kBlock columns
// after the other through as many pieces of shared memory, from where the copy engine takes them. It writes 16 bytes
// at a time, so that the warp does where rows are not kEights, multiples of that.
template <class T, int kStaged, bool kEights, int kPieces, int kHeld>
__device__ __forceinline__ void store_outputs(const float (&o)[kPieces][kHeld], float scale, std::uint32_t bias,
                                              std::uint32_t staging, const HopperParams& p, int row) {
  const std::uint32_t lane = threadIdx.x % 32, half = lane / 16;
  const auto at = [](std::uint32_t line, std::uint32_t eight) { return line * 128 + (eight ^ (line % 8)) * 16; };
#pragma unroll
  for (int begin = 0; begin < kPieces * kHeld / 32; begin += kStaged) {
    ptx::tma_store_wait_read<0>();  // of the lane that stores
    __syncwarp();
#pragma unroll
    for (int block = begin; block < begin + kStaged; ++block) {
      const std::uint32_t piece = staging + (block - begin) * kPieceBytes;
      float4 b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) b[i] = load_bias(bias, 4 * block + i);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const d = o[block * 32 / kHeld] + block * 32 % kHeld + 8 * i;
        const auto pair = [&](int first, float low, float high) {
          return pack<T>(fmaf(d[first], scale, low), fmaf(d[first + 1], scale, high));
        };
        ptx::store_matrix_x4(piece + at(lane % 16, 2 * i + half), pair(0, b[i].x, b[i].y), pair(2, b[i].x, b[i].y),
                             pair(4, b[i].z, b[i].w), pair(6, b[i].z, b[i].w));
      }
    }
    if constexpr (kEights) {
      ptx::fence_async_shared();
      __syncwarp();
#pragma unroll
      for (int block = begin; block < begin + kStaged; ++block) {
        if (lane == 0) ptx::tma_store(p.y, staging + (block - begin) * kPieceBytes, block * kBlock, row);
      }
      ptx::tma_store_commit();
      continue;
    }
    __syncwarp();
#pragma unroll 1
    for (std::uint32_t i = lane; i < kStaged * 16 * 8; i += 32) {
      const int block = begin + static_cast<int>(i / 128), line = static_cast<int>(i / 8 % 16);
      const int column = block * kBlock + static_cast<int>(i % 8) * 8;
      const int inside = row + line < p.tokens ? min(p.out - column, 8) : 0;
      T* const to = static_cast<T*>(p.outputs) + (row + line) * p.ldy + column;
#pragma unroll 1
      for (int e = 0; e < inside; ++e) {
        asm volatile("{\n.reg .b16 v;\nld.shared.b16 v, [%0];\nst.global.b16 [%1], v;\n}" ::"r"(
                         staging + i / 128 * kPieceBytes + at(i / 8 % 16, i % 8) + 2 * e),
                     "l"(to + e)
                     : "memory");
      }
    }
  }
}

}  // namespace fusedmlp::cuda::narrow
