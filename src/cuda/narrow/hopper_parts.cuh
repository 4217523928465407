// What consumers of the Hopper narrow kernel do in registers.
#pragma once

#include <cstdint>

#include "cuda/common/numeric.cuh"

namespace fusedmlp::cuda::narrow {

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
__device__ __forceinline__ void pin(std::uint32_t (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// Initial accumulators from a table of store_bias(): both rows of a thread have the same.
template <int kCount>
__device__ __forceinline__ void load_bias(std::uint32_t table, float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 8) {
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(d[i]), "=f"(d[i + 1]), "=f"(d[i + 4]), "=f"(d[i + 5])
                 : "r"(table + threadIdx.x % 4 * 16 + 8 * i)
                 : "memory");
    d[i + 2] = d[i];
    d[i + 3] = d[i + 1];
    d[i + 6] = d[i + 4];
    d[i + 7] = d[i + 5];
  }
}

// Lane t of four has words of columns 8 j + 2 t and 8 j + 2 t + 1, j = 0 to 3: it gets those of columns 8 t to 8 t
// + 7.
__device__ __forceinline__ uint4 gather_columns(const std::uint32_t (&w)[4]) {
  const bool odd = threadIdx.x % 2 != 0, high = threadIdx.x % 4 >= 2;
  std::uint32_t part[2][2];  // columns 8 (t % 2 + 2 i), words of lanes 2 (t / 2) and the next
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t got = __shfl_xor_sync(0xffffffff, odd ? w[2 * i] : w[2 * i + 1], 1);
    part[i][0] = odd ? got : w[2 * i];
    part[i][1] = odd ? w[2 * i + 1] : got;
  }
  const std::uint32_t first = __shfl_xor_sync(0xffffffff, high ? part[0][0] : part[1][0], 2);
  const std::uint32_t second = __shfl_xor_sync(0xffffffff, high ? part[0][1] : part[1][1], 2);
  return high ? make_uint4(first, second, part[1][0], part[1][1]) : make_uint4(part[0][0], part[0][1], first, second);
}

// A warpgroup's accumulators of kWidth columns, times `scale`, to 64 rows of `y` from `row` on.
template <class T, int kWidth, int kPieces>
__device__ __forceinline__ void store_outputs(const float (&o)[kPieces][kWidth / kPieces / 2], float scale, T* y,
                                              std::int64_t ldy, std::int64_t row, std::int64_t rows, int columns) {
  constexpr int kHeld = kWidth / kPieces / 2;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32 % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t at_row = row + 16 * warp + lane / 4 + 8 * half;
    T* const to = y + at_row * ldy;
    const int inside = at_row < rows ? columns : 0;
#pragma unroll
    for (int group = 0; group < kWidth / 32; ++group) {
      std::uint32_t w[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = (4 * group + j) * 4 + 2 * half;
        w[j] = pack<T>(o[at / kHeld][at % kHeld] * scale, o[at / kHeld][at % kHeld + 1] * scale);
      }
      const int column = 32 * group + lane % 4 * 8;
      const uint4 eight = gather_columns(w);
      if (column + 8 <= inside) *reinterpret_cast<uint4*>(to + column) = eight;
      if (columns % 8 != 0 && column < inside && column + 8 > inside) {  // the last columns of a row
#pragma unroll 1
        for (int e = 0; column + e < inside; ++e) {
          const std::uint32_t word = e < 4 ? (e < 2 ? eight.x : eight.y) : (e < 6 ? eight.z : eight.w);
          const auto bits = static_cast<std::uint16_t>(e % 2 == 0 ? word : word >> 16);
          reinterpret_cast<std::uint16_t*>(to)[column + e] = bits;
        }
      }
    }
  }
}

}  // namespace fusedmlp::cuda::narrow
