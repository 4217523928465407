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

// `pairs` in the order in which they are read: a chunk's first weights, then its second ones. Chunks go round.
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
  int chunk = 0;
  for (int pair = 0; pair < pairs; ++pair) {
    const int first = chunk * Tile::kChunk;
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
        ptx::tma_load(to, p.down, barrier, first + slice % kSlices * Tile::kDownDepth + k,
                      slice / kSlices * Tile::kOutRows);
      }
    });
    chunk = chunk + 1 == p.chunks ? 0 : chunk + 1;
    place = place + 1 == Tile::kPlaces ? 0 : place + 1;
  }
}

// The inputs of each warpgroup's tiles by turns.
template <class Tile>
__device__ __forceinline__ void fetch_inputs(const HopperParams& p, std::uint32_t shared, std::uint32_t full,
                                             std::uint32_t empty) {
  const int grid = static_cast<int>(gridDim.x);
  std::uint32_t parity = 1;
  for (int tile = static_cast<int>(blockIdx.x), warpgroup = 0; tile < p.tiles; tile += grid) {
    ptx::mbarrier_wait(empty + 8 * warpgroup, parity);
    if (ptx::elect_one()) {
      ptx::mbarrier_arrive_expect(full + 8 * warpgroup, Tile::kInputBytes);
      for (int i = 0; i < Tile::kWidth / kBlock; ++i) {
        ptx::tma_load(shared + warpgroup * Tile::kInputBytes + i * (kTileRows * 128), p.x, full + 8 * warpgroup,
                      i * kBlock, tile * kTileRows);
        if (tile + Tile::kConsumers * grid < p.tiles)
          ptx::tma_prefetch(p.x, i * kBlock, (tile + Tile::kConsumers * grid) * kTileRows);
      }
    }
    __syncwarp();
    if (++warpgroup == Tile::kConsumers) {
      warpgroup = 0;
      parity ^= 1;
    }
  }
}

// One warp writes biases as load_bias() reads them: four for each lane of four and 16 columns.
template <int kColumns, class Value>
__device__ __forceinline__ void store_bias(std::uint32_t table, const Value& value) {
  for (int i = static_cast<int>(threadIdx.x % 32); i < kColumns / 4; i += 32) {
    const int column = i / 4 * 16 + i % 4 * 2;
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(table + 16 * i), "f"(value(column)),
                 "f"(value(column + 1)), "f"(value(column + 8)), "f"(value(column + 9))
                 : "memory");
  }
}

// The hidden's biases, beside the first weights of each chunk.
template <class T, class Tile>
__device__ __forceinline__ void fetch_biases(const HopperParams& p, int pairs, std::uint32_t biases,
                                             std::uint32_t full, std::uint32_t empty) {
  sm90::Ring<Tile::kStages> ring;
  std::uint32_t place = 0;
  int chunk = 0;
  for (int pair = 0; pair < pairs; ++pair) {
    // Once the stage of the first slice is free, so is the table: there are more tables than chunks fit the ring.
    ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
    store_bias<Tile::kRows>(biases + place * Tile::kBiasBytes, [&](int row) {
      const bool of_gate = Tile::kGated && row < Tile::kChunk;
      const int unit = chunk * Tile::kChunk + (Tile::kGated && !of_gate ? row - Tile::kChunk : row);
      return unit < p.hidden ? bias_at<T>(of_gate ? p.bias_gate : p.bias_up, unit) : 0.0f;
    });
    ptx::mbarrier_arrive(full + 16 * place);  // every lane for what it wrote
    ring.advance(Tile::kSlices);
    place = place + 1 == Tile::kPlaces ? 0 : place + 1;
    chunk = chunk + 1 == p.chunks ? 0 : chunk + 1;
  }
}

}  // namespace fusedmlp::cuda::narrow
