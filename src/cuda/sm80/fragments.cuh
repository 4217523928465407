// A tile's share for each warp, and how a warp takes the operands of its products out of a stage.
#pragma once

#include <cstdint>

#include "cuda/ptx/mma.cuh"
#include "cuda/sm80/loads.cuh"
#include "cuda/sm80/tiles.h"

namespace fusedmlp::cuda::sm80 {

constexpr int kSteps = kDepth / 16;  // mma steps of a stage

template <bool kDual, TileName kTileName>
struct Tile {
  static constexpr TileShape kShape = kTiles[static_cast<int>(kTileName)];
  static constexpr unsigned kThreads = kShape.threads();
  static constexpr int kWeights = kDual ? 2 : 1;
  static constexpr int kM = kShape.m;
  static constexpr int kN = kShape.weight_rows / kWeights;  // output columns
  static constexpr int kWarpM = kM / kShape.warps_m;
  static constexpr int kWarpN = kN / kShape.warps_n;
  static constexpr int kMmaM = kWarpM / 16;
  static constexpr int kMmaN = kWarpN / 8;
  static constexpr unsigned kBytesA = kM * kRowBytes;
  static constexpr unsigned kBytesW = kN * kRowBytes;  // of each weight
  static constexpr unsigned kStageBytes = kBytesA + kWeights * kBytesW;
  static constexpr unsigned kOutPitch = kWarpN * 2 + 16;  // bytes of a row of a warp's finished outputs
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "ldmatrix takes 16 rows at a time");
  static_assert(kWeights * kN <= kThreads, "a thread fetches one bias at most");
  static_assert(2 * kStageBytes >= kShape.warps_m * kShape.warps_n * kWarpM * kOutPitch, "outputs reuse the stages");
};

template <class Tile>
struct Fragments {
  std::uint32_t a[Tile::kMmaM][4];
  std::uint32_t b[Tile::kWeights][Tile::kMmaN / 2][4];  // two n8 tiles: k0-7 and k8-15 of each
};

// Where a lane's ldmatrix rows are in a stage, k step 0; a chunk's swizzled place is an exclusive or of its bits.
// kAlongN: the weights lie in shared memory as [k][row].
template <class Tile, bool kAlongN>
struct FragmentAddress {
  std::uint32_t a, a_chunk;
  std::uint32_t b, b_chunk;

  __device__ __forceinline__ FragmentAddress(unsigned warp_m, unsigned warp_n) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned phase = lane % 8;
    a = (warp_m + lane % 16) * kRowBytes;
    a_chunk = (lane / 16 ^ phase) << 4;
    if constexpr (kAlongN) {
      static_assert((Tile::kWarpN & (Tile::kWarpN - 1)) == 0, "a warp's chunks differ in whole bits");
      const unsigned chunk = warp_n / kChunk + lane / 16;
      b = Tile::kBytesA + (phase + lane / 8 % 2 * 8) * Tile::kN * 2 + chunk / 8 * 128;
      b_chunk = (chunk % 8 ^ phase) << 4;
    } else {
      b = Tile::kBytesA + (warp_n + phase + lane / 16 * 8) * kRowBytes;
      b_chunk = (lane / 8 % 2 ^ phase) << 4;
    }
  }
};

template <class Tile, bool kAlongN>
__device__ __forceinline__ void load_fragments(const FragmentAddress<Tile, kAlongN>& at, std::uint32_t stage,
                                               int step, Fragments<Tile>& out) {
  const std::uint32_t a = stage + at.a + (at.a_chunk ^ (step << 5));
#pragma unroll
  for (int i = 0; i < Tile::kMmaM; ++i) ptx::ldmatrix_x4(out.a[i], a + i * 16 * kRowBytes);
  if constexpr (kAlongN) {
    const std::uint32_t b = stage + at.b + step * 16 * Tile::kN * 2;
#pragma unroll
    for (int p = 0; p < Tile::kMmaN / 2; ++p) {
      const std::uint32_t column = b + (at.b_chunk ^ (p << 5));
#pragma unroll
      for (int w = 0; w < Tile::kWeights; ++w) {
        ptx::ldmatrix_x4_transposed(out.b[w][p], column + w * Tile::kBytesW);
      }
    }
  } else {
    const std::uint32_t b = stage + at.b + (at.b_chunk ^ (step << 5));
#pragma unroll
    for (int w = 0; w < Tile::kWeights; ++w) {
#pragma unroll
      for (int p = 0; p < Tile::kMmaN / 2; ++p) {
        ptx::ldmatrix_x4(out.b[w][p], b + w * Tile::kBytesW + p * 16 * kRowBytes);
      }
    }
  }
}

}  // namespace fusedmlp::cuda::sm80
