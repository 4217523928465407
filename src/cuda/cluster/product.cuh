// out[tokens, columns] = f(a[tokens, k] w[columns, k]^T + bias): one product of the MLP with its epilogue. Gated: out
// = f(a gate^T + gate_bias) * (a w^T + bias), a tile's gates and ups side by side in shared memory and in a thread's
// accumulators.
//
// The warpgroups of a CTA multiply, 64 tokens each, in groups that take the blocks of k by turns: one warpgroup alone
// would be bound by how long each step takes. The last warp feeds a ring of stages through the copy engine.
#pragma once

#include <algorithm>

#include "cuda/cluster/plan.h"
#include "cuda/common/fast_activation.cuh"
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
  static constexpr int kN = kShape.rows, kTokens = kShape.tokens, kGroups = kShape.groups, kStages = kShape.stages();
  static constexpr int kOut = kGated ? kN / 2 : kN;                // columns of output
  static constexpr int kGroupThreads = kTokens <= 64 ? 128 : 256;  // that multiply
  static constexpr int kConsumers = kGroups * kGroupThreads;
  static constexpr int kThreads = kConsumers + 32;
  // Outputs of one slice straight from the accumulators: where one warpgroup has all of a token's, sharing them out
  // through shared memory takes longer than writing them in small pieces.
  static constexpr bool kDirect = kTokens >= 64 && kGroups == 1;
  // A warpgroup multiplies 64 rows: beyond the tile's tokens whatever lies behind them, which no output uses.
  static constexpr int kBytesA = kTokens * kBlockK * 2, kBytesB = kN * kBlockK * 2, kStage = kBytesA + kBytesB;
  // The groups' sums take the place of the stages. Pitch: floats between tokens; pairs of four rows meet all banks.
  static constexpr int kPitch = kN + 8, kBytesSums = kTokens * kPitch * 4;
  // Sums of all slices, of the tokens whose outputs this CTA finishes.
  static constexpr int kOffsetReceived = std::max(kStages * kStage, kGroups* kBytesSums);
  static constexpr int kOffsetBias = kOffsetReceived + kShape.received_bytes();
  static constexpr int kOffsetBarriers = kOffsetBias + kN * 4;  // full, empty, received
  static constexpr int kShared = kOffsetBarriers + 8 * (2 * kStages + 1);

  static_assert(kStage >= 64 * kBlockK * 2, "64 rows of a stage's inputs lie within it");
  static_assert(kStages >= 2 * kGroups && kStages % kGroups == 0, "a stage is one group's");
  static_assert((kShared + 1024) * kShape.resident <= kSharedLimit + 1024);
};

struct Params {
  CUtensorMap a, b, b_up;  // b: the gates where gated
  void* out;
  std::int64_t out_stride;
  Bias bias, gate_bias;
  FastActivation activation;
  int tokens, token_tiles, box_tokens;  // of a tile box_tokens, the last one's fewer
  int columns;
  int k_blocks, slices;
  // The kernel ahead is the first product's, which has waited for all before it and has begun: only `a` depends on
  // it.
  bool leads;
  Drawn drawn;
};

// A CTA's tile and its share of k.
struct Slice {
  int rank, column, token, tokens;  // first column; first token and how many
  int first, count;                 // k blocks
};
template <class Tile>
__device__ __forceinline__ Slice slice_of(const Params& p) {
  const int rank = static_cast<int>(blockIdx.x) % p.slices, tile = static_cast<int>(blockIdx.x) / p.slices;
  const int token = tile % p.token_tiles * p.box_tokens;
  const int first = p.k_blocks * rank / p.slices;
  return {rank,  tile / p.token_tiles * Tile::kOut,         token, min(p.box_tokens, p.tokens - token),
          first, p.k_blocks * (rank + 1) / p.slices - first};
}

// Asks L2, where a later write is seen, for the first of the CTA's weights. One thread.
template <class Tile>
__device__ __forceinline__ void draw(const Params& p, const Slice& slice) {
#pragma unroll 1
  for (int k = 0; k < min(p.drawn.blocks, slice.count); ++k) {
    const int at = (slice.first + k) * kBlockK;
    ptx::tma_prefetch(p.b, at, slice.column);
    if constexpr (Tile::kGated) ptx::tma_prefetch(p.b_up, at, slice.column);
  }
}

// Blocks of k that a first product asks for before it lets in the next launch, whose own loads delay these; after all
// of them that one's would come too late. A second product asks for all of its own before.
constexpr int kBlocksFirst = 6;
// Blocks of weights that a second product of few blocks asks for before its wait: more would delay the first one's
// last weights. Many blocks are worth that.
constexpr int kBlocksBefore = 8;
template <class Tile>
constexpr bool kMayHoldBack = !Tile::kGated && Tile::kStages > kBlocksBefore;
template <class Tile>
__device__ __forceinline__ int blocks_before(const Params& p, const Slice& slice) {
  const bool few = kMayHoldBack<Tile> && p.slices > 1 && 2 * slice.count < 3 * Tile::kStages;
  return min(few ? kBlocksBefore : Tile::kStages, slice.count);
}

// One thread. Several feeders were slower: what is asked for first must come first.
template <class Tile>
__device__ __forceinline__ void feed(const Params& p, const Slice& slice, std::uint32_t shared, std::uint32_t full,
                                     std::uint32_t empty) {
  const std::uint32_t token_bytes = static_cast<std::uint32_t>(p.box_tokens) * kBlockK * 2;
  const auto load_weights = [&](int k, std::uint32_t stage) {
    const std::uint32_t to = shared + stage * Tile::kStage + Tile::kBytesA;
    const int at = (slice.first + k) * kBlockK;
    ptx::mbarrier_arrive_expect(full + 8 * stage, Tile::kBytesB + token_bytes);
    ptx::tma_load(to, p.b, full + 8 * stage, at, slice.column);
    if constexpr (Tile::kGated) ptx::tma_load(to + Tile::kOut * 128, p.b_up, full + 8 * stage, at, slice.column);
  };
  const auto load_inputs = [&](int k, std::uint32_t stage) {  // the stage's rows beyond the box are not used
    ptx::tma_load(shared + stage * Tile::kStage, p.a, full + 8 * stage, (slice.first + k) * kBlockK, slice.token);
  };
  const int early = min(Tile::kStages, slice.count);
  if (p.leads) {
    const int before = blocks_before<Tile>(p, slice);
    for (int k = 0; k < before; ++k) load_weights(k, k);
    ptx::grid_dependency_wait();
    for (int k = 0; k < before; ++k) load_inputs(k, k);
    if constexpr (kMayHoldBack<Tile>) {
      for (int k = before; k < early; ++k) {
        load_weights(k, k);
        load_inputs(k, k);
      }
    }
  } else {
    for (int k = 0; k < early; ++k) {
      load_weights(k, k);
      load_inputs(k, k);
      // Not before the wait: the second product's weights may be read from here on.
      if (k + 1 == min(kBlocksFirst, early)) ptx::grid_dependency_launch();
    }
  }
  sm90::Ring<Tile::kStages> ring;
  for (int k = early; k < slice.count; ++k, ring.advance()) {
    ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity);
    load_weights(k, ring.stage);
    load_inputs(k, ring.stage);
  }
  if (p.leads) ptx::grid_dependency_launch();
}

// A warpgroup's products: its tokens, its group's blocks of k.
template <class T, class Tile>
__device__ __forceinline__ void multiply(const Slice& slice, std::uint32_t shared, std::uint32_t full,
                                         std::uint32_t empty, float (&d)[Tile::kN / 2]) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, group = thread / Tile::kGroupThreads;
  const int rows = thread % Tile::kGroupThreads / 128;
  sm90::Ring<Tile::kStages> ring;
  ring.stage = group;
  std::uint32_t previous = 0;
  for (int k = group; k < slice.count; k += Tile::kGroups, ring.advance(Tile::kGroups)) {
    ptx::mbarrier_wait(full + 8 * ring.stage, ring.parity);
    ptx::wgmma_fence();
    const std::uint32_t stage = shared + ring.stage * Tile::kStage;
    const std::uint32_t a = stage + rows * 8192 >> 4, b = stage + Tile::kBytesA >> 4;
#pragma unroll
    for (int j = 0; j < kBlockK / 16; ++j) {
      ptx::Wgmma<T, Tile::kN>::run(d, ptx::wgmma_descriptor(a + 2 * j), ptx::wgmma_descriptor(b + 2 * j), 1);
    }
    ptx::wgmma_commit();
    if (k >= Tile::kGroups) {
      ptx::wgmma_wait<1>();
      if (lane == 0) ptx::mbarrier_arrive(empty + 8 * previous);
    }
    previous = ring.stage;
  }
  ptx::wgmma_wait<0>();
}

// A warpgroup's sums to its group's area.
template <class Tile>
__device__ __forceinline__ void leave_sums(std::uint32_t shared, const float (&d)[Tile::kN / 2]) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const std::uint32_t sums = shared + thread / Tile::kGroupThreads * Tile::kBytesSums;
  const int row = thread % Tile::kGroupThreads / 32 * 16 + lane / 4;
  if (row >= Tile::kTokens) return;
#pragma unroll
  for (int i = 0; i < Tile::kN / 2; i += 2) {
    const int at = (row + i / 2 % 2 * 8) * Tile::kPitch + i / 4 * 8 + lane % 4 * 2;
    ptx::store_shared_pair(sums + 4 * at, d[i], d[i + 1]);
  }
}

// Four sums: kMost or fewer parts, `bytes` apart.
template <int kMost>
__device__ __forceinline__ float4 sum_of(std::uint32_t at, int parts, int bytes) {
  float4 part[kMost];
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    if (i < parts) part[i] = ptx::load_shared_quad(at + i * bytes);
  }
#pragma unroll
  for (int i = 1; i < kMost; ++i) {
    if (i < parts) add(part[0], part[i]);
  }
  return part[0];
}

// How the tokens of a tile are shared out to the CTAs of its cluster, the same number to each but the last.
struct Shares {
  int tokens;             // of a CTA
  std::uint32_t inverse;  // token / tokens is token * inverse >> 16 for as many as a tile has
  int first, own;         // this CTA's, and how many
};
__device__ __forceinline__ Shares shares_of(const Slice& slice, int slices) {
  const int tokens = (slice.tokens + slices - 1) / slices, first = slice.rank * tokens;
  return {tokens, (65535 + static_cast<std::uint32_t>(tokens)) / static_cast<std::uint32_t>(tokens), first,
          max(0, min(tokens, slice.tokens - first))};
}

// Every token's sums to the CTA that finishes it.
template <class Tile>
__device__ __forceinline__ void hand_out(const Slice& slice, const Shares& shares, std::uint32_t shared,
                                         std::uint32_t received) {
  constexpr int kQuads = Tile::kN / 4, kRounds = Tile::kTokens * kQuads / Tile::kConsumers;
  static_assert(Tile::kTokens * kQuads % Tile::kConsumers == 0 && Tile::kConsumers % kQuads == 0);
  const int thread = static_cast<int>(threadIdx.x), quad = thread % kQuads * 4, first = thread / kQuads;
  float4 sums[kRounds];
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const int token = first + i * (Tile::kConsumers / kQuads);
    sums[i] = sum_of<Tile::kGroups>(shared + 4 * (token * Tile::kPitch + quad), Tile::kGroups, Tile::kBytesSums);
  }
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const int token = first + i * (Tile::kConsumers / kQuads);
    if (token >= slice.tokens) break;
    const int to = static_cast<int>(token * shares.inverse >> 16);
    const int row = slice.rank * shares.tokens + token - to * shares.tokens;
    ptx::store_cluster(shared + Tile::kOffsetReceived + 4 * (row * Tile::kN + quad), received, to, sums[i]);
  }
}

// Four outputs of a token from their sums.
template <class T, class Tile>
__device__ __forceinline__ uint2 outputs_of(const FastActivation& activation, const float4& x, const float4& up) {
  uint2 word;
  with_shape<Tile::kGated>(activation.shape, [&](auto shape) {
    constexpr ActivationShape kShape = decltype(shape)::value;
    const auto f = [&](float value, float by) {
      if constexpr (Tile::kGated) return gated<kShape, kCoefficients<T>>(activation, value, by);
      return activate<kShape, kCoefficients<T>>(activation, value);
    };
    word = {pack<T>(f(x.x, up.x), f(x.y, up.y)), pack<T>(f(x.z, up.z), f(x.w, up.w))};
  });
  return word;
}

// The outputs of `tokens` tokens from `first` on, kMostRows or fewer, from parts of their sums: `pitch` floats
// between tokens, `bytes` between parts.
template <class T, class Tile, int kMostRows, int kMostParts>
__device__ __forceinline__ void finish(const Params& p, const Slice& slice, int first, int tokens, std::uint32_t sums,
                                       int pitch, int parts, int bytes, std::uint32_t bias) {
  constexpr int kQuads = Tile::kOut / 4, kAtOnce = Tile::kConsumers / kQuads;  // tokens
  constexpr int kAll = (kMostRows + kAtOnce - 1) / kAtOnce, kRounds = kAll < 4 ? kAll : 4;
  const int quad = static_cast<int>(threadIdx.x) % kQuads * 4;
  // Rows are multiples of 16 bytes; beyond the last column there is nothing or the gap behind the hidden.
  const bool inside = slice.column + quad < p.columns;
  const float4 x_bias = ptx::load_shared_quad(bias + 4 * quad);
  const float4 up_bias = Tile::kGated ? ptx::load_shared_quad(bias + 4 * (quad + Tile::kOut)) : float4{};
  T* to = static_cast<T*>(p.out) + (slice.token + first) * p.out_stride + slice.column + quad;
#pragma unroll 1
  for (int token = static_cast<int>(threadIdx.x) / kQuads; token < tokens; token += kRounds * kAtOnce) {
    float4 x[kRounds], up[kRounds];
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const std::uint32_t at = sums + 4 * ((token + i * kAtOnce) * pitch + quad);
      if (token + i * kAtOnce >= tokens) break;
      x[i] = sum_of<kMostParts>(at, parts, bytes);
      add(x[i], x_bias);
      if constexpr (Tile::kGated) {
        up[i] = sum_of<kMostParts>(at + 4 * Tile::kOut, parts, bytes);
        add(up[i], up_bias);
      }
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      if (token + i * kAtOnce >= tokens) break;
      const uint2 word = outputs_of<T, Tile>(p.activation, x[i], up[i]);
      if (inside) *reinterpret_cast<uint2*>(to + (token + i * kAtOnce) * p.out_stride) = word;
    }
  }
}

// The outputs of a thread's accumulators. Of two neighbouring lanes one writes the first row, the other the second.
template <class T, class Tile>
__device__ __forceinline__ void finish_own(const Params& p, const Slice& slice, const float (&d)[Tile::kN / 2],
                                           std::uint32_t bias) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int warp_row = thread / 32 * 16, row = warp_row + lane / 4 + lane % 2 * 8;
  if (warp_row >= slice.tokens) return;
  const bool odd = lane % 2 != 0, there = row < slice.tokens;
  T* to = static_cast<T*>(p.out) + (slice.token + row) * p.out_stride + slice.column;
#pragma unroll
  for (int eight = 0; eight < Tile::kOut; eight += 8) {
    const auto biased = [&](int first) {  // two columns of two rows
      const float2 by = ptx::load_shared_pair(bias + 4 * (first + lane % 4 * 2));
      const float* sum = d + first / 2;
      return float4{sum[0] + by.x, sum[1] + by.y, sum[2] + by.x, sum[3] + by.y};
    };
    const float4 x = biased(eight);
    const float4 up = Tile::kGated ? biased(Tile::kOut + eight) : float4{};
    const uint2 rows = outputs_of<T, Tile>(p.activation, x, up);
    const std::uint32_t got = __shfl_xor_sync(0xffffffff, odd ? rows.x : rows.y, 1);
    const int column = eight + lane % 4 / 2 * 4;
    if (there && slice.column + column < p.columns) {
      *reinterpret_cast<uint2*>(to + column) = odd ? uint2{got, rows.y} : uint2{rows.x, got};
    }
  }
}

// Bias of a weight row of the tile.
template <class T, class Tile>
__device__ __forceinline__ float bias_of(const Params& p, int first_column, int row) {
  const bool up = row >= Tile::kOut;  // gates come first
  const int column = first_column + (up ? row - Tile::kOut : row);
  return column < p.columns ? bias_at<T>(Tile::kGated && !up ? p.gate_bias : p.bias, column) : 0.0f;
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kShape.resident) product(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];  // swizzled tiles start at multiples of 1024
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 8 * Tile::kStages;
  const std::uint32_t received = empty + 8 * Tile::kStages;
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const bool feeds = warp == Tile::kConsumers / 32;
  const Slice slice = slice_of<Tile>(p);
  const Shares shares = shares_of(slice, p.slices);
  if (feeds && ptx::elect_one()) {
    if (static_cast<int>(blockIdx.x) < p.drawn.ctas) draw<Tile>(p, slice);
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrier_init(full + 8 * i, 1);
      ptx::mbarrier_init(empty + 8 * i, Tile::kGroupThreads / 32);
    }
    ptx::mbarrier_init(received, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect(received, static_cast<std::uint32_t>(p.slices * shares.own * Tile::kN) * 4);
    ptx::prefetch_tensor_map(p.b);
    if constexpr (Tile::kGated) ptx::prefetch_tensor_map(p.b_up);
    ptx::prefetch_tensor_map(p.a);
  }
  __syncthreads();
  const bool alone = p.slices == 1;
  if (!alone) ptx::cluster_arrive();  // has begun: may be written to
  if (!p.leads) ptx::grid_dependency_wait();

  if (feeds) {
    if (ptx::elect_one()) feed<Tile>(p, slice, shared, full, empty);
    __syncwarp();
    if (alone) return;
    return ptx::cluster_wait();
  }
  const int thread = static_cast<int>(threadIdx.x);
  const std::uint32_t bias = shared + Tile::kOffsetBias;
  static_assert(Tile::kN <= Tile::kConsumers);
  const float own_bias = thread < Tile::kN ? bias_of<T, Tile>(p, slice.column, thread) : 0.0f;
  float d[Tile::kN / 2] = {};
  multiply<T, Tile>(slice, shared, full, empty, d);
  if (thread < Tile::kN) ptx::store_shared(bias + 4 * thread, own_bias);
  ptx::barrier_sync(1, Tile::kConsumers);  // all have read the stages; biases are there
  if constexpr (Tile::kDirect) {
    if (alone) return finish_own<T, Tile>(p, slice, d, bias);
  }
  leave_sums<Tile>(shared, d);
  ptx::barrier_sync(1, Tile::kConsumers);
  if (!Tile::kDirect && alone) {
    return finish<T, Tile, Tile::kTokens, Tile::kGroups>(p, slice, 0, slice.tokens, shared, Tile::kPitch,
                                                         Tile::kGroups, Tile::kBytesSums, bias);
  }
  ptx::cluster_wait();
  hand_out<Tile>(slice, shares, shared, received);
  ptx::mbarrier_wait_cluster(received, 0);
  finish<T, Tile, Tile::kTokens / 2, kMostSlices>(p, slice, shares.first, shares.own, shared + Tile::kOffsetReceived,
                                                  Tile::kN, p.slices, shares.tokens * Tile::kN * 4, bias);
}

}  // namespace fusedmlp::cuda::cluster
