// Warps that fetch for the Hopper narrow kernel: weights through the copy engine, biases through registers.
#pragma once

#include <cstdint>

#include "cuda/common/numeric.cuh"
#include "cuda/narrow/hopper_tile.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/sync.cuh"
#include "cuda/ptx/tma.cuh"
#include "cuda/sm90/ring.cuh"

namespace fusedmlp::cuda::narrow {

// `pairs` in the order in which they are read: a chunk's first weights, then the second ones of that kLag before it.
// Chunks go round, so that the first and the last pairs have weights that nobody uses.
template <class Tile>
__device__ __forceinline__ void fetch_weights(const HopperParams& p, int pairs, std::uint32_t stages,
                                              std::uint32_t full, std::uint32_t empty) {
  sm90::Ring<Tile::kStages> ring;
  std::uint32_t place = 0;
  // load(to, barrier, slice) for each slice of a product.
  const auto fetch = [&](int product, int slices, int bytes, const auto& load) {
    const std::uint32_t barrier = full + 16 * place + 8 * product;
    for (int i = 0; i < slices; ++i, ring.advance()) {
      ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
      if (ptx::elect_one()) {
        if (i == 0) ptx::mbarrier_arrive_expect(barrier, slices * bytes);
        load(stages + ring.stage * Tile::kStageBytes, barrier, i);
      }
      __syncwarp();
    }
  };
  int up = 0, down = (p.chunks - Tile::kLag % p.chunks) % p.chunks;
  for (int pair = 0; pair < pairs; ++pair) {
    const int first = up * Tile::kChunk, second = down * Tile::kChunk;
    fetch(0, Tile::kUpSlices, Tile::kUpBytes, [&](std::uint32_t to, std::uint32_t barrier, int slice) {
#pragma unroll
      for (int k = 0; k < Tile::kUpDepth; k += kBlock, to += Tile::kRows * 128) {
        const int column = slice * Tile::kUpDepth + k;
        if (Tile::kGated) ptx::tma_load(to, p.gate, barrier, column, first);
        ptx::tma_load(to + (Tile::kGated ? Tile::kChunk * 128 : 0), p.up, barrier, column, first);
      }
    });
    fetch(1, Tile::kDownSlices, Tile::kDownBytes, [&](std::uint32_t to, std::uint32_t barrier, int slice) {
      constexpr int kSlices = Tile::kDownSlices / Tile::kPieces;  // of a piece
#pragma unroll
      for (int k = 0; k < Tile::kDownDepth; k += kBlock, to += Tile::kOutRows * 128) {
        ptx::tma_load(to, p.down, barrier, second + slice % kSlices * Tile::kDownDepth + k,
                      slice / kSlices * Tile::kOutRows);
      }
    });
    up = up + 1 == p.chunks ? 0 : up + 1;
    down = down + 1 == p.chunks ? 0 : down + 1;
    place = place + 1 == Tile::kPlaces ? 0 : place + 1;
  }
}

// One warp writes the down biases as load_bias() reads them: four for each lane of four and 16 columns.
template <int kColumns, class Value>
__device__ __forceinline__ void store_bias(std::uint32_t table, const Value& value) {
  for (int i = static_cast<int>(threadIdx.x % 32); i < kColumns / 4; i += 32) {
    const int column = i / 4 * 16 + i % 4 * 2;
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(table + 16 * i), "f"(value(column)),
                 "f"(value(column + 1)), "f"(value(column + 8)), "f"(value(column + 9))
                 : "memory");
  }
}

// What of the first product's biases never changes: the zeros beside them and the input that meets them.
template <class T, class Tile>
__device__ __forceinline__ void prepare_biases(std::uint32_t shared) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int at = Tile::kOffsetBias + 16 * lane; at < Tile::kOffsetZeros + Tile::kBiasBytes; at += 16 * 32) {
    const bool one = at >= Tile::kOffsetOnes && at < Tile::kOffsetZeros;
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %2, %2};" ::"r"(shared + at), "r"(one ? pack<T>(1, 0) : 0), "r"(0)
                 : "memory");
  }
  __syncwarp();
}

// The hidden's biases, beside the first weights of each chunk.
template <class T, class Tile>
__device__ __forceinline__ void fetch_biases(const HopperParams& p, int pairs, std::uint32_t biases,
                                             std::uint32_t full, std::uint32_t empty) {
  sm90::Ring<Tile::kStages> ring;
  std::uint32_t place = 0;
  int chunk = 0;
  for (int pair = 0; pair < pairs; ++pair) {
    constexpr int kEach = Tile::kRows / 32;
    float value[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int row = static_cast<int>(threadIdx.x % 32) + 32 * i;
      const bool of_gate = Tile::kGated && row < Tile::kChunk;
      const int unit_at = chunk * Tile::kChunk + (Tile::kGated && !of_gate ? row - Tile::kChunk : row);
      value[i] = unit_at < p.hidden ? bias_at<T>(of_gate ? p.bias_gate : p.bias_up, unit_at) : 0.0f;
    }
    // Once the stage of the first slice is free, so is the table: there are more tables than chunks fit the ring.
    ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int row = static_cast<int>(threadIdx.x % 32) + 32 * i;
      asm volatile("st.shared.b32 [%0], %1;" ::"r"(biases + place * Tile::kBiasBytes + 16 * row),
                   "r"(pack<T>(value[i], 0))
                   : "memory");
    }
    ptx::fence_async_shared();  // the tensor cores read them
    __syncwarp();
    if (ptx::elect_one()) ptx::mbarrier_arrive(full + 16 * place);
    __syncwarp();
    ring.advance(Tile::kSlices);
    place = place + 1 == Tile::kPlaces ? 0 : place + 1;
    chunk = chunk + 1 == p.chunks ? 0 : chunk + 1;
  }
}

}  // namespace fusedmlp::cuda::narrow
