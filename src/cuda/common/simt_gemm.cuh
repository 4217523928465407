// A tiled product on the plain fp32 lanes: any type, stride, alignment and size. Sums run over k in ascending
// order, as the reference's do.
#pragma once

#include "cuda/common/gemm.h"
#include "cuda/common/numeric.cuh"

namespace fusedmlp::cuda {

template <int kBlockM, int kBlockN, int kBlockK, bool kDual>
struct SimtTile {
  static constexpr int kThreads = 256;  // 16 x 16, each with kRows x kCols outputs
  static constexpr int kM = kBlockM;
  static constexpr int kN = kBlockN;
  static constexpr int kK = kBlockK;
  static constexpr int kRows = kBlockM / 16;
  static constexpr int kCols = kBlockN / 16;
  static constexpr int kWeights = kDual ? 2 : 1;  // 0: w, 1: gate
  static constexpr int kLoadsA = kBlockM * kBlockK / kThreads;
  static constexpr int kLoadsB = kBlockN * kBlockK / kThreads;
  static_assert(kBlockM % 64 == 0 && kBlockN % 64 == 0, "16 x 16 threads with 4 x 4 outputs each, or more");
  static_assert(kLoadsA * kThreads == kBlockM * kBlockK && kLoadsB * kThreads == kBlockN * kBlockK,
                "every thread loads the same number of elements");

  struct Shared {
    float a[kK][kM + 4];
    float b[kWeights][kK][kN + 4];
  };
};

// element(r, k) of a [rows, depth] block at (row, k0) into registers, 0 outside. k runs fastest over the threads
// when `along_k`, so that neighbouring threads read neighbouring addresses.
template <class T, int kCount, int kRows, int kDepth>
__device__ __forceinline__ void load_block(const T* data, std::int64_t row_stride, std::int64_t col_stride,
                                           std::int64_t row, std::int64_t rows, int k0, int depth, bool along_k,
                                           float (&out)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * 256;
    const int r = along_k ? at / kDepth : at % kRows;
    const int k = along_k ? at % kDepth : at / kRows;
    const bool inside = row + r < rows && k0 + k < depth;
    out[i] = inside ? to_float(data[(row + r) * row_stride + (k0 + k) * col_stride]) : 0.0f;
  }
}

template <int kCount, int kRows, int kDepth, int kPitch>
__device__ __forceinline__ void store_block(bool along_k, const float (&in)[kCount], float (&out)[kDepth][kPitch]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * 256;
    const int r = along_k ? at / kDepth : at % kRows;
    const int k = along_k ? at % kDepth : at / kRows;
    out[k][r] = in[i];
  }
}

// Row r of a thread's outputs within the tile, and column c: groups of four, so that a thread reads shared memory in
// vectors of four.
__device__ __forceinline__ int simt_row(int r) { return r / 4 * 64 + static_cast<int>(threadIdx.x) / 16 * 4 + r % 4; }
__device__ __forceinline__ int simt_col(int c) { return c / 4 * 64 + static_cast<int>(threadIdx.x) % 16 * 4 + c % 4; }

// sums[i][r][c] = the sum of weight i at (simt_row(r), simt_col(c)) of the tile.
template <class T, class Tile>
__device__ __forceinline__ void simt_product(const Gemm& g, std::int64_t row, int col, typename Tile::Shared& shared,
                                             float (&sums)[Tile::kWeights][Tile::kRows][Tile::kCols]) {
  const T* a = static_cast<const T*>(g.a);
  const Weight weights[2] = {g.w, g.gate};
  float next_a[Tile::kLoadsA];
  float next_b[Tile::kWeights][Tile::kLoadsB];
  bool along_k[Tile::kWeights];
#pragma unroll
  for (int i = 0; i < Tile::kWeights; ++i) {
    along_k[i] = weights[i].col_stride <= weights[i].row_stride;
    for (int r = 0; r < Tile::kRows; ++r) {
      for (int c = 0; c < Tile::kCols; ++c) sums[i][r][c] = 0.0f;
    }
  }
  const auto load = [&](int k0) {
    load_block<T, Tile::kLoadsA, Tile::kM, Tile::kK>(a, g.lda, 1, row, g.m, k0, g.k, true, next_a);
#pragma unroll
    for (int i = 0; i < Tile::kWeights; ++i) {
      load_block<T, Tile::kLoadsB, Tile::kN, Tile::kK>(static_cast<const T*>(weights[i].data), weights[i].row_stride,
                                                       weights[i].col_stride, col, g.n, k0, g.k, along_k[i],
                                                       next_b[i]);
    }
  };
  load(0);
  for (int k0 = 0; k0 < g.k; k0 += Tile::kK) {
    store_block<Tile::kLoadsA, Tile::kM>(true, next_a, shared.a);
#pragma unroll
    for (int i = 0; i < Tile::kWeights; ++i) {
      store_block<Tile::kLoadsB, Tile::kN>(along_k[i], next_b[i], shared.b[i]);
    }
    __syncthreads();
    if (k0 + Tile::kK < g.k) load(k0 + Tile::kK);
#pragma unroll
    for (int k = 0; k < Tile::kK; ++k) {
      float left[Tile::kRows];
#pragma unroll
      for (int r = 0; r < Tile::kRows; r += 4) {
        *reinterpret_cast<float4*>(&left[r]) = *reinterpret_cast<const float4*>(&shared.a[k][simt_row(r)]);
      }
#pragma unroll
      for (int i = 0; i < Tile::kWeights; ++i) {
        float right[Tile::kCols];
#pragma unroll
        for (int c = 0; c < Tile::kCols; c += 4) {
          *reinterpret_cast<float4*>(&right[c]) = *reinterpret_cast<const float4*>(&shared.b[i][k][simt_col(c)]);
        }
#pragma unroll
        for (int c = 0; c < Tile::kCols; ++c) {
#pragma unroll
          for (int r = 0; r < Tile::kRows; ++r) sums[i][r][c] = fmaf(left[r], right[c], sums[i][r][c]);
        }
      }
    }
    __syncthreads();
  }
}

// Tiles of a [m, n] result, the column running fastest.
inline std::int64_t tiles(std::int64_t m, std::int64_t n, int block_m, int block_n) {
  return (m + block_m - 1) / block_m * ((n + block_n - 1) / block_n);
}

}  // namespace fusedmlp::cuda
