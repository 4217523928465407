// out[rows, columns] = f(a[rows, k] b[columns, k]^T + bias) on Hopper: one product of the MLP with its epilogue.
// Gated: out = f(a b^T + bias) * (a b_up^T + bias_up), the tiles of both weights side by side in shared memory and
// their products side by side in the accumulators of one thread.
//
// A persistent CTA of three or four warpgroups. Two warps of the last one feed a ring of shared-memory stages through
// the copy engine, one with weights and one with rows of a; the others multiply. Either two share a tile, each with
// half of its rows; or (ping-pong) they take turns with whole tiles, so that the epilogue of one runs beside the
// products of another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "cuda/common/fast_activation.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/numeric.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/prefetch.cuh"
#include "cuda/ptx/sync.cuh"
#include "cuda/ptx/tma.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/sm90/ring.cuh"
#include "cuda/sm90/tensor_map.h"
#include "cuda/sm90/tiles.h"

namespace fusedmlp::cuda::sm90 {

// How many row tiles of m rows are walked together: what a wave reads of both operands fits L2, and what neighbouring
// SMs read is the same. One more rather than one left over, which would read all weights again for itself.
constexpr int group_of(int m, int row_tiles) {
  const int usual = m == 64 ? 4 : 8;
  return row_tiles == usual + 1 ? row_tiles : usual;
}

// What follows from a row of the table.
template <int kIndex>
struct Tile {
  static constexpr TileShape kShape = kTiles[kIndex];
  static constexpr int kM = kShape.m, kN = kShape.weights, kStages = kShape.stages;
  static constexpr bool kGated = kShape.gated, kTurns = kShape.turns;
  static constexpr int kConsumers = kShape.consumers;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  // Registers a thread of those that load and those that multiply; a third consumer leaves less for each.
  static constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 40;
  static constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 232;
  static constexpr int kRows = kTurns ? kM : kM / 2;  // of a warpgroup
  static constexpr int kBlocks = kRows / 64;
  static constexpr int kOut = kShape.columns();
  // Columns of one store: as the copy engine swizzles them, or an odd number of 16 bytes, which needs no swizzle.
  static constexpr int kBox = kOut % 64 == 0 ? 64 : kOut % 32 == 0 ? 32 : kOut % 56 == 0 ? 56 : 24;
  static constexpr int kStores = 2;  // of 64 rows and kBox columns that a warpgroup has under way

  static constexpr int kBytesA = kM * kBlockK * 2;
  static constexpr int kBytesB = kN * kBlockK * 2;
  static constexpr int kBytesStaged = 64 * kBox * 2;
  static constexpr int kOffsetB = kStages * kBytesA;
  static constexpr int kOffsetStaged = kOffsetB + kStages * kBytesB;
  static constexpr int kOffsetBias = kOffsetStaged + kConsumers * kStores * kBytesStaged;
  static constexpr int kOffsetBarriers = kOffsetBias + kConsumers * kN * 4;
  static constexpr int kShared = kOffsetBarriers + 2 * 8 * kStages;

  static_assert(kTurns || kConsumers == 2, "two warpgroups share a tile");
  static_assert(kRows % 64 == 0 && kBlocks >= 1, "a warpgroup multiplies 64 rows at a time");
  static_assert(kBlocks * kN / 2 <= (kConsumers == 3 ? 128 : 192), "accumulators must leave registers for the rest");
  static_assert(kOut % kBox == 0, "the epilogue stores whole boxes");
  static_assert(kN <= 256 && kM <= 256, "a TMA box has at most 256 rows");
  static_assert(kOut % 8 == 0, "whole swizzle atoms are fetched");
  static_assert(kShared <= kSharedLimit, "stages do not fit shared memory");
};

template <bool kGated>
struct GemmMaps {
  CUtensorMap a, b, out;
  CUtensorMap a_last;  // boxes of a partial last tile's rows: zeros beyond the last row cost the copy engine time
};
template <>
struct GemmMaps<true> : GemmMaps<false> {
  CUtensorMap b_up;
};

template <bool kGated>
struct GemmParams : GemmMaps<kGated> {
  int rows;
  const void* bias;  // null: none
  const void* bias_up;
  std::int64_t bias_stride, bias_up_stride;
  FastActivation f;
  float scale;  // of the sums and biases, before the activation
  int columns;
  int last_column;  // where the last tile begins
  int k_blocks;
  int row_tiles;
  int column_tiles;
  int group;         // row tiles that are walked together, for the L2 cache
  bool second;       // of the MLP (GemmCall)
  int drawn;         // blocks of its own weights that go into L2 before it waits
  const void* next;  // weights that are drawn once all loads are asked for
  std::int64_t next_bytes;
};

struct TileIndex {
  int row, column;
};

// Row tiles in groups, a group column by column.
template <class Params>
__device__ inline TileIndex tile_at(const Params& p, int index) {
  if (p.second) index = p.row_tiles * p.column_tiles - 1 - index;
  const int per_group = p.group * p.column_tiles;
  const int group = index / per_group;
  const int first = group * p.group;
  const int height = min(p.group, p.row_tiles - first);
  const int inside = index - group * per_group;
  return {first + inside % height, inside / height};
}

// The last tile ends with the matrix and shares columns with the one before it: zeros in place of weights beyond the
// last row would cost the copy engine time.
template <class Tile>
__device__ inline int first_column(const GemmParams<Tile::kGated>& p, const TileIndex& tile) {
  return min(tile.column * Tile::kOut, p.last_column);
}

// Asks L2 for the first blocks of a CTA's first weights; the row tiles that share them each for a part.
template <class Tile>
__device__ inline void draw_weights(const GemmParams<Tile::kGated>& p) {
  const TileIndex tile = tile_at(p, static_cast<int>(blockIdx.x));
  const int sharing = min(p.row_tiles, p.group), column = first_column<Tile>(p, tile);
  for (int k = tile.row % p.group; k < p.drawn; k += sharing) {
    ptx::tma_prefetch(p.b, k * kBlockK, column);
    if constexpr (Tile::kGated) ptx::tma_prefetch(p.b_up, k * kBlockK, column);
  }
}

// The next product's, each CTA a part.
template <class Params>
__device__ inline void draw_next(const Params& p) {
  constexpr std::int64_t kPiece = 4096;
  for (std::int64_t at = blockIdx.x * kPiece; at < p.next_bytes; at += gridDim.x * kPiece) {
    ptx::prefetch_l2(static_cast<const std::uint8_t*>(p.next) + at,
                     static_cast<std::uint32_t>(min(kPiece, p.next_bytes - at)));
  }
}

// Value `row` of the concatenated biases of a tile (gate, then up).
template <class T, class Tile>
__device__ inline float bias_at(const GemmParams<Tile::kGated>& p, int first_column, int row) {
  const bool up = Tile::kGated && row >= Tile::kOut;
  const int column = first_column + (up ? row - Tile::kOut : row);
  const T* bias = static_cast<const T*>(up ? p.bias_up : p.bias);
  const std::int64_t stride = up ? p.bias_up_stride : p.bias_stride;
  return bias != nullptr && column < p.columns ? static_cast<float>(bias[column * stride]) : 0.0f;
}

// kBox columns of 64 rows of output from the accumulators of a warpgroup, as packed pairs in the accumulators' order.
// `d` begins at the first column; for ActivationShape::normal the sums come halved.
template <class T, class Tile, ActivationShape kShape>
__device__ inline void finish(const FastActivation& f, const float* d, std::uint32_t (&out)[Tile::kBox / 4]) {
#pragma unroll
  for (int i = 0; i < Tile::kBox / 4; ++i) {
    if constexpr (Tile::kGated) {
      const float* up = d + Tile::kOut / 2;
      out[i] = pack<T>(gated<kShape, kCoefficients<T>>(f, d[2 * i], up[2 * i]),
                       gated<kShape, kCoefficients<T>>(f, d[2 * i + 1], up[2 * i + 1]));
    } else if constexpr (kShape == ActivationShape::normal) {
      out[i] =
          pack<T>(normal_of_half<kCoefficients<T>>(f, d[2 * i]), normal_of_half<kCoefficients<T>>(f, d[2 * i + 1]));
    } else {
      out[i] = pack<T>(activate<kShape, kCoefficients<T>>(f, d[2 * i]),
                       activate<kShape, kCoefficients<T>>(f, d[2 * i + 1]));
    }
  }
}

// Packed pairs to shared memory in the layout of the output's tensor map: 64 rows of kBox columns, swizzled over that
// width.
template <class Tile>
__device__ inline void stage_output(std::uint32_t area, const std::uint32_t (&out)[Tile::kBox / 4]) {
  constexpr int kRowBytes = Tile::kBox * 2;
  constexpr int kChunks = Tile::kBox / 8;  // of 16 bytes
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int row = 16 * warp + lane % 16;
  // The copy engine's swizzle: 16-byte chunk number xor number of the line of 128 bytes. None for an odd number.
  const int swizzle = Tile::kBox % 32 == 0 ? (row * kRowBytes / 128) % kChunks : 0;
#pragma unroll
  for (int i = 0; i < (kChunks + 1) / 2; ++i) {
    const int next = 2 * i + 1 < kChunks ? 2 * i + 1 : 2 * i;  // the last of an odd number is written twice
    const int chunk = lane < 16 ? 2 * i : next;
    ptx::store_matrix_x4(area + row * kRowBytes + (chunk ^ swizzle) * 16, out[4 * i], out[4 * i + 1], out[2 * next],
                         out[2 * next + 1]);
  }
}

// Second products have no activation and a kernel of their own: where a CTA has one tile, code is fetched once, and
// that of activations in between costs 4 % of GeGLU 768x3072 at 1024 tokens.
template <class T, class Tile, bool kActivated>
__global__ void __launch_bounds__(Tile::kThreads, 1) gemm(const __grid_constant__ GemmParams<Tile::kGated> p) {
  constexpr int kStages = Tile::kStages;
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];  // swizzled tiles start at multiples of 1024
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 8 * kStages;
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const int warpgroup = warp / 4;

  if (warp == 0 && ptx::elect_one()) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(full + 8 * i, 2);                            // both operands' loads
      ptx::mbarrier_init(empty + 8 * i, 4 * (Tile::kTurns ? 1 : 2));  // the warps that read it
    }
    ptx::mbarrier_init_fence();
  }
  if (warp == 4 && ptx::elect_one()) {
    ptx::prefetch_tensor_map(p.a);
    ptx::prefetch_tensor_map(p.b);
    if constexpr (Tile::kGated) ptx::prefetch_tensor_map(p.b_up);
    ptx::prefetch_tensor_map(p.out);
  }
  __syncthreads();
  if (p.drawn > 0 && warp == 4 * Tile::kConsumers && ptx::elect_one()) draw_weights<Tile>(p);
  if (!p.second) ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();

  const int first = blockIdx.x, step = gridDim.x;
  const int tiles = p.row_tiles * p.column_tiles;

  if (warpgroup == Tile::kConsumers) {
    ptx::registers_shrink<Tile::kProducerRegisters>();
    const int role = warp % 4;
    if (role == 0) {  // weights
      Ring<kStages> ring;
      for (int index = first; index < tiles; index += step) {
        const int column = first_column<Tile>(p, tile_at(p, index));
        for (int k = 0; k < p.k_blocks; ++k, ring.advance()) {
          ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
          if (ptx::elect_one()) {
            const std::uint32_t barrier = full + 8 * ring.stage;
            const std::uint32_t to = shared + Tile::kOffsetB + ring.stage * Tile::kBytesB;
            ptx::mbarrier_arrive_expect(barrier, Tile::kBytesB);
            ptx::tma_load(to, p.b, barrier, k * kBlockK, column);
            if constexpr (Tile::kGated) ptx::tma_load(to + Tile::kOut * 128, p.b_up, barrier, k * kBlockK, column);
          }
        }
      }
      if (p.next_bytes > 0 && ptx::elect_one()) draw_next(p);
    } else if (role == 1) {  // rows of a
      if (p.second) ptx::grid_dependency_wait();
      Ring<kStages> ring;
      for (int index = first; index < tiles; index += step) {
        const int row = tile_at(p, index).row * Tile::kM;
        const auto fetch = [&](const CUtensorMap& map, std::uint32_t bytes) {
          for (int k = 0; k < p.k_blocks; ++k, ring.advance()) {
            const std::uint32_t barrier = full + 8 * ring.stage;
            ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
            if (ptx::elect_one()) {
              ptx::mbarrier_arrive_expect(barrier, bytes);
              ptx::tma_load(shared + ring.stage * Tile::kBytesA, map, barrier, k * kBlockK, row);
            }
          }
        };
        if (p.rows - row >= Tile::kM) {
          fetch(p.a, Tile::kBytesA);
        } else {  // the stages' last rows are not used
          fetch(p.a_last, (p.rows - row) * kBlockK * 2);
        }
      }
    }
  } else {
    ptx::registers_grow<Tile::kConsumerRegisters>();
    const int lane = threadIdx.x % 32, thread = threadIdx.x % 128;
    const int first_row = Tile::kTurns ? 0 : warpgroup * Tile::kRows;  // of the tile
    // Addresses of the first stage, in the descriptors' unit.
    const std::uint32_t tile_a = (shared + first_row * kBlockK * 2) >> 4;
    const std::uint32_t tile_b = (shared + Tile::kOffsetB) >> 4;
    const std::uint32_t staged = shared + Tile::kOffsetStaged + warpgroup * (Tile::kStores * Tile::kBytesStaged);
    const std::uint32_t bias_shared = shared + Tile::kOffsetBias + warpgroup * Tile::kN * 4;
    std::uint32_t area = staged;
    const int named = 1 + warpgroup;             // barrier of this warpgroup
    constexpr int kTurn = 1 + Tile::kConsumers;  // and those by which one warpgroup lets the other go ahead
    const bool has_bias = p.bias != nullptr || p.bias_up != nullptr;
    Ring<kStages> ring;
    int start = first, stride = step;
    if constexpr (Tile::kTurns) {
      start += warpgroup * step;
      stride *= Tile::kConsumers;
      ring.advance(warpgroup * p.k_blocks);
    }
    auto release = [&](std::uint32_t stage) {
      if (lane == 0) ptx::mbarrier_arrive(empty + 8 * stage);
    };

    for (int index = start; index < tiles; index += stride) {
      const TileIndex tile = tile_at(p, index);
      const int column = first_column<Tile>(p, tile);
      float bias[(Tile::kN + 127) / 128] = {};
      if (has_bias) {
#pragma unroll
        for (int i = 0; i < (Tile::kN + 127) / 128; ++i) bias[i] = bias_at<T, Tile>(p, column, thread + 128 * i);
      }

      float d[Tile::kBlocks][Tile::kN / 2];
      // A parity tells one pass of a ring from the next only: not to look at stages before the other is through them.
      if (Tile::kTurns && index != first) ptx::barrier_sync(kTurn + warpgroup, 256);
      std::uint32_t previous = 0;
      for (int k = 0; k < p.k_blocks; ++k) {
        ptx::mbarrier_wait(full + 8 * ring.stage, ring.parity);
        ptx::wgmma_fence();
        const std::uint32_t a_now = tile_a + ring.stage * (Tile::kBytesA >> 4);
        const std::uint32_t b_now = tile_b + ring.stage * (Tile::kBytesB >> 4);
#pragma unroll
        for (int i = 0; i < Tile::kBlocks; ++i) {
#pragma unroll
          for (int j = 0; j < kBlockK / 16; ++j) {
            ptx::Wgmma<T, Tile::kN>::run(d[i], ptx::wgmma_descriptor(a_now + (i * 8192 + j * 32 >> 4)),
                                         ptx::wgmma_descriptor(b_now + (j * 32 >> 4)), j > 0 || k > 0);
          }
        }
        ptx::wgmma_commit();
        if (k > 0) {
          ptx::wgmma_wait<1>();
          release(previous);
        }
        previous = ring.stage;
        ring.advance();
      }
      if (Tile::kTurns && index + step < tiles) {
        ptx::barrier_arrive(kTurn + (warpgroup + 1 == Tile::kConsumers ? 0 : warpgroup + 1), 256);
      }
      ptx::wgmma_wait<0>();
      release(previous);
      if constexpr (Tile::kTurns) ring.advance((Tile::kConsumers - 1) * p.k_blocks);  // the others' tiles

      if (has_bias || (!Tile::kGated && p.scale != 1)) {
#pragma unroll
        for (int i = 0; i < (Tile::kN + 127) / 128; ++i) {
          if (thread + 128 * i < Tile::kN) ptx::store_shared(bias_shared + 4 * (thread + 128 * i), p.scale * bias[i]);
        }
        ptx::barrier_sync(named, 128);
#pragma unroll
        for (int j = 0; j < Tile::kN / 8; ++j) {
          const float2 pair = ptx::load_shared_pair(bias_shared + 32 * j + 8 * (lane % 4));
#pragma unroll
          for (int i = 0; i < Tile::kBlocks; ++i) {
            d[i][4 * j] = fmaf(d[i][4 * j], p.scale, pair.x);
            d[i][4 * j + 1] = fmaf(d[i][4 * j + 1], p.scale, pair.y);
            d[i][4 * j + 2] = fmaf(d[i][4 * j + 2], p.scale, pair.x);
            d[i][4 * j + 3] = fmaf(d[i][4 * j + 3], p.scale, pair.y);
          }
        }
      }
      const int row = tile.row * Tile::kM + first_row;
      const auto epilogue = [&](auto shape) {
#pragma unroll
        for (int i = 0; i < Tile::kBlocks; ++i) {
#pragma unroll
          for (int box = 0; box < Tile::kOut / Tile::kBox; ++box) {
            std::uint32_t out[Tile::kBox / 4];
            finish<T, Tile, decltype(shape)::value>(p.f, d[i] + box * (Tile::kBox / 2), out);
            stage_output<Tile>(area, out);
            ptx::fence_async_shared();
            // The thread that stores lets nobody go on to the next area before its last store has read it.
            if (thread == 0) ptx::tma_store_wait_read<Tile::kStores - 2>();
            ptx::barrier_sync(named, 128);
            if (thread == 0) {
              ptx::tma_store(p.out, area, column + box * Tile::kBox, row + 64 * i);
              ptx::tma_store_commit();
            }
            area = area == staged + (Tile::kStores - 1) * Tile::kBytesStaged ? staged : area + Tile::kBytesStaged;
          }
        }
      };
      // One branch a tile: with one a box, the code of other activations in between, MLPs took 2 % longer.
      if constexpr (kActivated) {
        with_shape<Tile::kGated>(p.f.shape, [&](auto shape) {
          if constexpr (Tile::kGated || decltype(shape)::value != ActivationShape::identity) epilogue(shape);
        });
      } else {
        epilogue(std::integral_constant<ActivationShape, ActivationShape::identity>());
      }
    }
    if (thread == 0) ptx::tma_store_wait();
  }
}

// Queues one product with tile kIndex of the table.
template <class T, int kIndex>
Status launch_tile(const GemmCall& call, cudaStream_t stream) {
  using Tile = sm90::Tile<kIndex>;
  constexpr DType kDType = std::is_same_v<T, __half> ? DType::f16 : DType::bf16;
  const Gemm& g = call.gemm;
  const Weight& first = Tile::kGated ? g.gate : g.w;
  GemmParams<Tile::kGated> p{};
  if (Status status = encode_tensor_map(p.a, kDType, {g.a, g.m, g.k, g.lda}, Tile::kM, kBlockK); !status)
    return status;
  p.rows = static_cast<int>(g.m);
  if (const int last = p.rows % Tile::kM; last != 0) {
    if (Status status = encode_tensor_map(p.a_last, kDType, {g.a, g.m, g.k, g.lda}, last, kBlockK); !status)
      return status;
  }
  if (Status status = encode_tensor_map(p.b, kDType, {first.data, g.n, g.k, first.row_stride}, Tile::kOut, kBlockK);
      !status)
    return status;
  if constexpr (Tile::kGated) {
    if (Status status = encode_tensor_map(p.b_up, kDType, {g.w.data, g.n, g.k, g.w.row_stride}, Tile::kOut, kBlockK);
        !status)
      return status;
  }
  if (Status status = encode_tensor_map(p.out, kDType, {g.out, g.m, g.n, g.ldo}, 64, Tile::kBox); !status)
    return status;
  const Bias& bias = Tile::kGated ? g.gate_bias : g.bias;
  p.bias = bias.data;
  p.bias_stride = bias.stride;
  if (Tile::kGated) {
    p.bias_up = g.bias.data;
    p.bias_up_stride = g.bias.stride;
  }
  p.f = call.activation;
  p.scale = p.f.shape == ActivationShape::normal ? 0.5f : 1.0f;
  p.columns = g.n;
  p.last_column = (std::max(g.n - Tile::kOut, 0) + 7) / 8 * 8;
  p.k_blocks = (g.k + kBlockK - 1) / kBlockK;
  p.row_tiles = static_cast<int>((g.m + Tile::kM - 1) / Tile::kM);
  p.column_tiles = (g.n + Tile::kOut - 1) / Tile::kOut;
  p.group = group_of(Tile::kM, p.row_tiles);
  p.second = call.second;
  // All where L2 has room for them; else what is asked for first of all, while memory stands idle.
  p.drawn = call.second ? 0 : call.draws_weights ? p.k_blocks : std::min(Tile::kStages, p.k_blocks);
  p.next = call.next;
  p.next_bytes = call.next_bytes;
  Launch how;
  how.grid = static_cast<unsigned>(std::min<std::int64_t>(std::int64_t{p.row_tiles} * p.column_tiles, call.sms));
  how.block = Tile::kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  if (recording() != nullptr) how.what = describe(Tile::kShape);
  if constexpr (!Tile::kGated) {
    if (p.f.shape == ActivationShape::identity) return launch<gemm<T, Tile, false>>(kName, how, Tile::kShared, p);
  }
  return launch<gemm<T, Tile, true>>(kName, how, Tile::kShared, p);
}

// The same with the call's tile, one of those of its form.
template <class T, bool kGated>
Status launch_any_tile(const GemmCall& call, cudaStream_t stream) {
  Status (*functions[kTileCount])(const GemmCall&, cudaStream_t) = {};
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    (
        [&] {
          if constexpr (kTiles[kIndex].gated == kGated) functions[kIndex] = launch_tile<T, kIndex>;
        }(),
        ...);
  }
  (std::make_integer_sequence<int, kTileCount>());
  return functions[call.tile](call, stream);
}

}  // namespace fusedmlp::cuda::sm90
