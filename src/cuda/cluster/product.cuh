// out[tokens, columns] = f(a[tokens, k] w[columns, k]^T + bias): one product of the MLP with its epilogue. Gated: out
// = f(a gate^T + gate_bias) * (a w^T + bias), a tile's gates and ups side by side in shared memory and in a thread's
// accumulators.
//
// The last warp of a CTA feeds a ring of stages through the copy engine, the warpgroups before it multiply, 64 tokens
// each.
#pragma once

#include <cstring>

#include "cuda/cluster/plan.h"
#include "cuda/common/activations.cuh"
#include "cuda/common/numeric.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/sync.cuh"
#include "cuda/ptx/tma.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/sm90/ring.cuh"

namespace fusedmlp::cuda::cluster {

// What follows from a row of the table.
template <int kForm, bool kIsGated>
struct Tile {
  static constexpr Form kShape = kForms[kForm];
  static constexpr bool kGated = kIsGated;
  static constexpr int kN = kShape.rows, kStages = kShape.stages();
  static constexpr int kOut = kGated ? kN / 2 : kN;  // columns of output
  static constexpr int kConsumers = kShape.tokens / 64 * 128;
  static constexpr int kThreads = kConsumers + 32;
  static constexpr int kBytesA = kShape.tokens * kBlockK * 2, kBytesB = kN * kBlockK * 2, kStage = kBytesA + kBytesB;
  // The sums take the place of the stages. Pitch: floats between tokens; pairs of four rows meet all banks.
  static constexpr int kPitch = kN + 8, kBytesSums = kShape.tokens * kPitch * 4;
  static constexpr int kOffsetBias = kStages * kStage;
  static constexpr int kOffsetBarriers = kOffsetBias + kN * 4;
  static constexpr int kShared = kOffsetBarriers + 2 * 8 * kStages;

  static_assert(kStages >= 2 && kBytesSums <= kStages * kStage);
  static_assert((kShared + 1024) * kShape.resident <= kSharedLimit + 1024);
};

struct Params {
  CUtensorMap a, b, b_up;  // b: the gates where gated
  void* out;
  std::int64_t out_stride;
  Bias bias, gate_bias;
  ActivationArgs activation;
  int tokens, columns;
  int k_blocks, slices;
  // The kernel ahead is the first product's, which has waited for all before it and has begun: only `a` depends on
  // it.
  bool leads;
  bool alone;  // one slice, whose outputs are finished from the accumulators
};

// Its share of k and its tile.
struct Slice {
  int rank, column, first, count;  // k blocks
};
template <class Tile>
__device__ __forceinline__ Slice slice_of(const Params& p) {
  const int rank = static_cast<int>(blockIdx.x) % p.slices, tile = static_cast<int>(blockIdx.x) / p.slices;
  const int first = p.k_blocks * rank / p.slices;
  return {rank, tile * Tile::kOut, first, p.k_blocks * (rank + 1) / p.slices - first};
}

// One thread.
template <class Tile>
__device__ __forceinline__ void feed(const Params& p, const Slice& slice, std::uint32_t shared, std::uint32_t full,
                                     std::uint32_t empty) {
  const std::uint32_t token_bytes = static_cast<std::uint32_t>(p.tokens) * kBlockK * 2;
  const auto load_weights = [&](int k) {
    const std::uint32_t stage = k % Tile::kStages, to = shared + stage * Tile::kStage + Tile::kBytesA;
    const int at = (slice.first + k) * kBlockK;
    ptx::mbarrier_arrive_expect(full + 8 * stage, Tile::kBytesB + token_bytes);
    ptx::tma_load(to, p.b, full + 8 * stage, at, slice.column);
    if constexpr (Tile::kGated) ptx::tma_load(to + Tile::kOut * 128, p.b_up, full + 8 * stage, at, slice.column);
  };
  const auto load_inputs = [&](int k) {  // of the tokens that there are; the stage's other rows are not used
    const std::uint32_t stage = k % Tile::kStages;
    ptx::tma_load(shared + stage * Tile::kStage, p.a, full + 8 * stage, (slice.first + k) * kBlockK, 0);
  };
  const int early = min(Tile::kStages, slice.count);
  if (p.leads) {
    for (int k = 0; k < early; ++k) load_weights(k);
    ptx::grid_dependency_wait();
    for (int k = 0; k < early; ++k) load_inputs(k);
  } else {
    for (int k = 0; k < early; ++k) {
      load_weights(k);
      load_inputs(k);
    }
  }
  for (int k = early; k < slice.count; ++k) {
    ptx::mbarrier_wait(empty + 8 * (k % Tile::kStages), (k / Tile::kStages - 1) & 1);
    load_weights(k);
    load_inputs(k);
  }
}

// Bias of a weight row of the tile.
template <class T, class Tile>
__device__ __forceinline__ float bias_of(const Params& p, int first_column, int row) {
  const bool up = row >= Tile::kOut;  // gates come first
  const int column = first_column + (up ? row - Tile::kOut : row);
  return column < p.columns ? bias_at<T>(Tile::kGated && !up ? p.gate_bias : p.bias, column) : 0.0f;
}

// f(x), or gated f(x) * up, of kCount values.
template <class T, bool kGated, int kCount>
__device__ __forceinline__ void finish(const ActivationArgs& activation, const float (&x)[kCount],
                                       const float (&up)[kCount], T (&out)[kCount]) {
  with_form(activation.form, [&](auto form) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if constexpr (kGated) {
        out[i] = from_float<T>(gated<decltype(form)::value>(activation, x[i], up[i]));
      } else {
        out[i] = from_float<T>(activate<decltype(form)::value>(activation, x[i]));
      }
    }
  });
}

// The outputs of a tile whose k is in one slice, from the accumulators.
template <class T, class Tile>
__device__ __forceinline__ void finish_alone(const Params& p, int column, std::uint32_t bias,
                                             const float (&d)[Tile::kN / 2]) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int row = thread / 32 * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < Tile::kOut / 8; ++j) {
    const int at = j * 8 + lane % 4 * 2;
    const float2 pair = ptx::load_shared_pair(bias + 4 * at);
    float x[4], up[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = d[4 * j + i] + (i % 2 == 0 ? pair.x : pair.y);
    if constexpr (Tile::kGated) {
      const float2 ups = ptx::load_shared_pair(bias + 4 * (at + Tile::kOut));
#pragma unroll
      for (int i = 0; i < 4; ++i) up[i] = d[Tile::kOut / 2 + 4 * j + i] + (i % 2 == 0 ? ups.x : ups.y);
    }
    T out[4];
    finish<T, Tile::kGated>(p.activation, x, up, out);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = row + half * 8;
      if (token >= p.tokens || column + at >= p.columns) continue;
      std::uint32_t word;
      std::memcpy(&word, out + 2 * half, sizeof word);
      *reinterpret_cast<std::uint32_t*>(static_cast<T*>(p.out) + token * p.out_stride + column + at) = word;
    }
  }
}

__device__ __forceinline__ void add(float (&sum)[4], const float4& part) {
  sum[0] += part.x;
  sum[1] += part.y;
  sum[2] += part.z;
  sum[3] += part.w;
}

// The outputs of some of the tokens, from the sums of all slices, which lie in the cluster's shared memory.
template <class T, class Tile>
__device__ __forceinline__ void finish_share(const Params& p, const Slice& slice, std::uint32_t sums,
                                             std::uint32_t bias) {
  constexpr int kMost = 8;                                                     // slices
  constexpr int kQuads = Tile::kOut / 4, kAtOnce = Tile::kConsumers / kQuads;  // tokens
  static_assert(Tile::kConsumers % kQuads == 0);
  const int thread = static_cast<int>(threadIdx.x), quad = thread % kQuads * 4;
  const int share = (p.tokens + p.slices - 1) / p.slices;
  const int last = min(p.tokens, (slice.rank + 1) * share);
  for (int token = slice.rank * share + thread / kQuads; token < last; token += kAtOnce) {
    const std::uint32_t at = sums + 4 * (token * Tile::kPitch + quad);
    float4 parts[kMost], up_parts[kMost];
#pragma unroll
    for (int s = 0; s < kMost; ++s) {
      if (s < p.slices) parts[s] = ptx::load_cluster(at, s);
      if (Tile::kGated && s < p.slices) up_parts[s] = ptx::load_cluster(at + 4 * Tile::kOut, s);
    }
    float x[4] = {}, up[4] = {};
    add(x, ptx::load_shared_quad(bias + 4 * quad));
    if constexpr (Tile::kGated) add(up, ptx::load_shared_quad(bias + 4 * (quad + Tile::kOut)));
#pragma unroll
    for (int s = 0; s < kMost; ++s) {
      if (s < p.slices) add(x, parts[s]);
      if (Tile::kGated && s < p.slices) add(up, up_parts[s]);
    }
    T out[4];
    finish<T, Tile::kGated>(p.activation, x, up, out);
    // Rows are multiples of 16 bytes; beyond the last column there is nothing or the gap behind the hidden.
    if (slice.column + quad >= p.columns) continue;
    uint2 word;
    std::memcpy(&word, out, sizeof word);
    *reinterpret_cast<uint2*>(static_cast<T*>(p.out) + token * p.out_stride + slice.column + quad) = word;
  }
}

// A warpgroup's part: its tokens' products, and where k is one slice their outputs; else the sums are left in the
// place of the stages.
template <class T, class Tile>
__device__ __forceinline__ void multiply(const Params& p, const Slice& slice, std::uint32_t shared,
                                         std::uint32_t full, std::uint32_t empty) {
  constexpr int kN = Tile::kN;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const std::uint32_t bias = shared + Tile::kOffsetBias;
  constexpr int kOwnBiases = (kN + Tile::kConsumers - 1) / Tile::kConsumers;
  float own_bias[kOwnBiases];  // asked for now, used at the end
#pragma unroll
  for (int i = 0; i < kOwnBiases; ++i) {
    const int row = thread + i * Tile::kConsumers;
    own_bias[i] = row < kN ? bias_of<T, Tile>(p, slice.column, row) : 0.0f;
  }
  float d[kN / 2] = {};
  sm90::Ring<Tile::kStages> ring;
  std::uint32_t previous = 0;
  for (int k = 0; k < slice.count; ++k, ring.advance()) {
    ptx::mbarrier_wait(full + 8 * ring.stage, ring.parity);
    ptx::wgmma_fence();
    const std::uint32_t stage = shared + ring.stage * Tile::kStage;
    const std::uint32_t a = stage + thread / 128 * 8192 >> 4, b = stage + Tile::kBytesA >> 4;
#pragma unroll
    for (int j = 0; j < kBlockK / 16; ++j) {
      ptx::Wgmma<T, kN>::run(d, ptx::wgmma_descriptor(a + 2 * j), ptx::wgmma_descriptor(b + 2 * j), 1);
    }
    ptx::wgmma_commit();
    if (k > 0) {
      ptx::wgmma_wait<1>();
      if (lane == 0) ptx::mbarrier_arrive(empty + 8 * previous);
    }
    previous = ring.stage;
  }
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < kOwnBiases; ++i) {
    const int row = thread + i * Tile::kConsumers;
    if (row < kN) ptx::store_shared(bias + 4 * row, own_bias[i]);
  }
  ptx::barrier_sync(1, Tile::kConsumers);  // all have written these and read the stages
  if (p.alone) return finish_alone<T, Tile>(p, slice.column, bias, d);
  const int row = thread / 32 * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < kN / 2; i += 2) {
    const int at = (row + i / 2 % 2 * 8) * Tile::kPitch + i / 4 * 8 + lane % 4 * 2;
    ptx::store_shared_pair(shared + 4 * at, d[i], d[i + 1]);
  }
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kShape.resident) product(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];  // swizzled tiles start at multiples of 1024
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 8 * Tile::kStages;
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const bool feeds = warp == Tile::kConsumers / 32;
  const Slice slice = slice_of<Tile>(p);
  if (feeds && ptx::elect_one()) {
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrier_init(full + 8 * i, 1);
      ptx::mbarrier_init(empty + 8 * i, Tile::kConsumers / 32);
    }
    ptx::mbarrier_init_fence();
    ptx::prefetch_tensor_map(p.b);
    if constexpr (Tile::kGated) ptx::prefetch_tensor_map(p.b_up);
    ptx::prefetch_tensor_map(p.a);
  }
  __syncthreads();
  if (!p.leads) ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();  // not before: the second product's weights may be read from here on

  if (feeds) {
    if (ptx::elect_one()) feed<Tile>(p, slice, shared, full, empty);
    __syncwarp();
  } else {
    multiply<T, Tile>(p, slice, shared, full, empty);
  }
  if (p.alone) return;
  ptx::cluster_arrive();
  ptx::cluster_wait();
  if (!feeds) finish_share<T, Tile>(p, slice, shared, shared + Tile::kOffsetBias);
  ptx::cluster_arrive();
  ptx::cluster_wait();  // shared memory stays until all have read it
}

}  // namespace fusedmlp::cuda::cluster
