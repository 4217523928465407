// out[rows, columns] = a[rows, k] b[columns, k]^T + bias on Hopper where there are too few tiles for all SMs: the
// CTAs of a cluster share a tile, each multiplies a slice of k, and hands its sums to the ones that finish them.
//
// Two warpgroups multiply, 64 rows each; a warp feeds a ring of stages through the copy engine.
#pragma once

#include <type_traits>

#include "cuda/common/launch.h"
#include "cuda/common/numeric.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/sync.cuh"
#include "cuda/ptx/tma.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/sm90/ring.cuh"
#include "cuda/sm90/split.h"
#include "cuda/sm90/tensor_map.h"

namespace fusedmlp::cuda::sm90 {

// What follows from a row of the table.
template <int kIndex>
struct SplitTile {
  static constexpr Split kShape = kSplits[kIndex];
  static constexpr int kM = kSplitRows, kN = kShape.columns, kSlices = kShape.slices, kStages = split_stages(kShape);
  static constexpr int kConsumers = 2 * kM, kThreads = kConsumers + 32;
  static constexpr int kUnits = kN / 8;               // of four sums a thread, 16 x 8 of a warp
  static constexpr int kOwnUnits = kUnits / kSlices;  // that a CTA finishes
  static constexpr int kUnitBytes = kConsumers * 16;
  static constexpr int kBytesA = kM * kBlockK * 2, kStage = kBytesA + kN * kBlockK * 2;
  static constexpr int kOffsetSums = kStages * kStage;  // all slices' sums of the units that this CTA finishes
  static constexpr int kOffsetBarriers = kOffsetSums + kUnits * kUnitBytes;  // full, empty
  static constexpr int kShared = kOffsetBarriers + 8 * 2 * kStages;
  static_assert(kUnits % kSlices == 0 && kShared <= kSharedLimit);
};

struct SplitParams {
  CUtensorMap a, b;
  void* out;
  std::int64_t out_stride;
  Bias bias;
  int rows, row_tiles, box_rows;  // of a tile box_rows, the last one's fewer
  int columns;
  int k_blocks;
  bool second;  // of the MLP (GemmCall)
};

// A CTA's tile and slice of k.
struct SplitSlice {
  int rank, row, rows, column;
  int first, count;  // k blocks
};
template <class Tile>
__device__ __forceinline__ SplitSlice split_slice(const SplitParams& p) {
  constexpr int kSlices = Tile::kSlices;
  const int rank = static_cast<int>(blockIdx.x) % kSlices, tile = static_cast<int>(blockIdx.x) / kSlices;
  const int row = tile % p.row_tiles * p.box_rows, first = p.k_blocks * rank / kSlices;
  return {rank,
          row,
          min(p.box_rows, p.rows - row),
          tile / p.row_tiles * Tile::kN,
          first,
          p.k_blocks * (rank + 1) / kSlices - first};
}

// One thread.
template <class Tile>
__device__ __forceinline__ void feed(const SplitParams& p, const SplitSlice& slice, std::uint32_t shared,
                                     std::uint32_t full, std::uint32_t empty) {
  const std::uint32_t bytes = static_cast<std::uint32_t>(p.box_rows + Tile::kN) * kBlockK * 2;
  const auto load_b = [&](int k, std::uint32_t stage) {
    ptx::mbarrier_arrive_expect(full + 8 * stage, bytes);
    ptx::tma_load(shared + stage * Tile::kStage + Tile::kBytesA, p.b, full + 8 * stage, (slice.first + k) * kBlockK,
                  slice.column);
  };
  const auto load_a = [&](int k, std::uint32_t stage) {  // the stage's rows beyond the box are not used
    ptx::tma_load(shared + stage * Tile::kStage, p.a, full + 8 * stage, (slice.first + k) * kBlockK, slice.row);
  };
  const int early = min(Tile::kStages, slice.count);
  for (int k = 0; k < early; ++k) load_b(k, k);
  if (p.second) ptx::grid_dependency_wait();
  for (int k = 0; k < early; ++k) load_a(k, k);
  Ring<Tile::kStages> ring;
  for (int k = early; k < slice.count; ++k, ring.advance()) {
    ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity);
    load_b(k, ring.stage);
    load_a(k, ring.stage);
  }
}

// A warpgroup's products: 64 rows, the slice's blocks of k.
template <class T, class Tile>
__device__ __forceinline__ void multiply(int blocks, std::uint32_t shared, std::uint32_t full, std::uint32_t empty,
                                         float (&d)[Tile::kN / 2]) {
  const int thread = static_cast<int>(threadIdx.x);
  Ring<Tile::kStages> ring;
  std::uint32_t previous = 0;
  for (int k = 0; k < blocks; ++k, ring.advance()) {
    ptx::mbarrier_wait(full + 8 * ring.stage, ring.parity);
    ptx::wgmma_fence();
    const std::uint32_t stage = shared + ring.stage * Tile::kStage;
    const std::uint32_t a = stage + thread / 128 * 8192 >> 4, b = stage + Tile::kBytesA >> 4;
#pragma unroll
    for (int j = 0; j < kBlockK / 16; ++j) {
      ptx::Wgmma<T, Tile::kN>::run(d, ptx::wgmma_descriptor(a + 2 * j), ptx::wgmma_descriptor(b + 2 * j),
                                   j > 0 || k > 0);
    }
    ptx::wgmma_commit();
    if (k > 0) {
      ptx::wgmma_wait<1>();
      if (thread % 32 == 0) ptx::mbarrier_arrive(empty + 8 * previous);
    }
    previous = ring.stage;
  }
  ptx::wgmma_wait<0>();
}

// The first of a thread's two columns of a unit that this CTA finishes.
template <class Tile>
__device__ __forceinline__ int own_column(const SplitSlice& slice, int unit) {
  return slice.column + (slice.rank * Tile::kOwnUnits + unit) * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
}

// The outputs of the units that this CTA finishes, slices added in their order.
template <class T, class Tile>
__device__ __forceinline__ void finish(const SplitParams& p, const SplitSlice& slice, std::uint32_t sums,
                                       const float2 (&bias)[Tile::kOwnUnits]) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int row = thread / 32 * 16 + lane / 4;
  T* out = static_cast<T*>(p.out) + (slice.row + row) * p.out_stride;
#pragma unroll
  for (int i = 0; i < Tile::kOwnUnits; ++i) {
    const int column = own_column<Tile>(slice, i);
    if (column >= p.columns) return;  // a multiple of 8
    float4 sum = ptx::load_shared_quad(sums + i * Tile::kUnitBytes);
#pragma unroll
    for (int other = 1; other < Tile::kSlices; ++other) {
      add(sum, ptx::load_shared_quad(sums + (other * Tile::kOwnUnits + i) * Tile::kUnitBytes));
    }
    const auto store = [&](T* to, float x, float y) {
      *reinterpret_cast<std::uint32_t*>(to + column) = pack<T>(x + bias[i].x, y + bias[i].y);
    };
    if (row < slice.rows) store(out, sum.x, sum.y);
    if (row + 8 < slice.rows) store(out + 8 * p.out_stride, sum.z, sum.w);
  }
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1) split_gemm(const __grid_constant__ SplitParams p) {
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];  // swizzled tiles start at multiples of 1024
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 8 * Tile::kStages;
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const bool feeds = warp == Tile::kConsumers / 32;
  const SplitSlice slice = split_slice<Tile>(p);
  if (feeds && ptx::elect_one()) {
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrier_init(full + 8 * i, 1);
      ptx::mbarrier_init(empty + 8 * i, Tile::kConsumers / 32);
    }
    ptx::mbarrier_init_fence();
    ptx::prefetch_tensor_map(p.b);
    ptx::prefetch_tensor_map(p.a);
  }
  __syncthreads();
  ptx::cluster_arrive();  // has begun: may be written to
  if (!p.second) ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();

  float d[Tile::kN / 2];
  float2 bias[Tile::kOwnUnits] = {};
  if (feeds) {
    if (ptx::elect_one()) feed<Tile>(p, slice, shared, full, empty);
    __syncwarp();
  } else {
#pragma unroll
    for (int i = 0; i < Tile::kOwnUnits; ++i) {  // asked for before they are needed
      const int column = own_column<Tile>(slice, i);
      if (column < p.columns) bias[i] = {bias_at<T>(p.bias, column), bias_at<T>(p.bias, column + 1)};
    }
    multiply<T, Tile>(slice.count, shared, full, empty, d);
  }
  ptx::cluster_wait();
  const std::uint32_t sums = shared + Tile::kOffsetSums + threadIdx.x * 16;
  if (!feeds) {
#pragma unroll
    for (int i = 0; i < Tile::kUnits; ++i) {
      constexpr int kOwn = Tile::kOwnUnits;
      ptx::store_cluster(sums + (slice.rank * kOwn + i % kOwn) * Tile::kUnitBytes,
                         static_cast<std::uint32_t>(i / kOwn), {d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]});
    }
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();
  if (!feeds) finish<T, Tile>(p, slice, sums, bias);
}

template <class T, class Tile>
Status launch_split_tile(const GemmCall& call, cudaStream_t stream) {
  constexpr DType kDType = std::is_same_v<T, f16> ? DType::f16 : DType::bf16;
  const Gemm& g = call.gemm;
  SplitParams p{};
  p.rows = static_cast<int>(g.m);
  p.row_tiles = (p.rows + Tile::kM - 1) / Tile::kM;
  // Even, for the copy engine's zeros beyond the last row cost time too.
  p.box_rows = (p.rows + p.row_tiles - 1) / p.row_tiles;
  if (Status status = encode_tensor_map(p.a, kDType, {g.a, g.m, g.k, g.lda}, p.box_rows, kBlockK); !status)
    return status;
  if (Status status = encode_tensor_map(p.b, kDType, {g.w.data, g.n, g.k, g.w.row_stride}, Tile::kN, kBlockK);
      !status)
    return status;
  p.out = g.out;
  p.out_stride = g.ldo;
  p.bias = g.bias;
  p.columns = g.n;
  p.k_blocks = (g.k + kBlockK - 1) / kBlockK;
  p.second = call.second;
  Launch how;
  how.grid = static_cast<unsigned>(p.row_tiles * ((g.n + Tile::kN - 1) / Tile::kN) * Tile::kSlices);
  how.cluster = Tile::kSlices;
  how.block = Tile::kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  if (recording() != nullptr) how.what = describe(Tile::kShape);
  return launch<split_gemm<T, Tile>>(kName, how, Tile::kShared, p);
}

// With the split of this index.
template <class T, int kIndex = 0>
Status launch_split(const GemmCall& call, int index, cudaStream_t stream) {
  if constexpr (kIndex + 1 < kSplitCount) {
    if (index != kIndex) return launch_split<T, kIndex + 1>(call, index, stream);
  }
  return launch_split_tile<T, SplitTile<kIndex>>(call, stream);
}

}  // namespace fusedmlp::cuda::sm90
