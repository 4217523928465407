// Outputs from accumulators to shared memory, from where the copy engine stores them.
#pragma once

#include <cstdint>

#include "cuda/ptx/sync.cuh"

namespace fusedmlp::cuda::sm90 {

// Packed pairs to shared memory in the layout of the output's tensor map: 64 rows of kBox columns, swizzled over that
// width.
template <int kBox>
__device__ inline void stage_output(std::uint32_t area, const std::uint32_t (&out)[kBox / 4]) {
  constexpr int kRowBytes = kBox * 2;
  constexpr int kChunks = kBox / 8;  // of 16 bytes
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int row = 16 * warp + lane % 16;
  // The copy engine's swizzle: 16-byte chunk number xor number of the line of 128 bytes.
  const int swizzle = (row * kRowBytes / 128) % kChunks;
#pragma unroll
  for (int i = 0; i < kChunks / 2; ++i) {
    const int chunk = 2 * i + lane / 16;
    ptx::store_matrix_x4(area + row * kRowBytes + (chunk ^ swizzle) * 16, out[4 * i], out[4 * i + 1], out[4 * i + 2],
                         out[4 * i + 3]);
  }
}

}  // namespace fusedmlp::cuda::sm90
