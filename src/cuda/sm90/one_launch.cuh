// Both products of an MLP in one launch on Hopper, for products whose tiles are those of gemm.cuh that three
// warpgroups take turns with.
//
// Persistent CTAs take tiles by tickets, those of the first product first. A tile of the second one is loaded column
// by column of the hidden as flags say that the first product's tiles are stored; its weights are on their way
// before. Tickets are handed out in order and only to CTAs that run, so that whoever waits waits for tiles under way.
// Rings, turns and epilogues are gemm.cuh's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda/common/tile_slot.h"
#include "cuda/sm90/gemm.cuh"

namespace fusedmlp::cuda::sm90 {

// A tile of one of the products: M rows by N rows of weights.
template <int M, int N, bool Gated>
struct Part {
  static constexpr int kM = M, kN = N;
  static constexpr bool kGated = Gated;
  static constexpr int kBlocks = M / 64;
  static constexpr int kOut = Gated ? N / 2 : N;
  static constexpr int kBox = kOut % 64 == 0 ? 64 : 32;      // columns of one store
  static constexpr int kRound = kOut % 64 == 0 ? 64 : kOut;  // columns that are stored at once
  static constexpr int kBytesA = M * kBlockK * 2, kBytesB = N * kBlockK * 2;
};

template <bool Gated>
struct OneLaunch {
  using Up = Part<128, 128, Gated>;
  using Down = std::conditional_t<Gated, Part<64, 96, false>, Part<128, 128, false>>;
  static constexpr int kStages = Gated ? 5 : 6;
  static constexpr int kConsumers = 3;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  static constexpr int kProducerRegisters = 32, kConsumerRegisters = 160;
  static constexpr int kTickets = 4;  // that are known at once in a CTA

  static constexpr int kBytesA = std::max(Up::kBytesA, Down::kBytesA);
  static constexpr int kBytesB = std::max(Up::kBytesB, Down::kBytesB);
  static constexpr int kBytesStaged = 64 * 2 * std::max(Up::kRound, Down::kRound);
  static constexpr int kMostN = std::max(Up::kN, Down::kN);
  static constexpr int kOffsetB = kStages * kBytesA;
  static constexpr int kOffsetStaged = kOffsetB + kStages * kBytesB;
  static constexpr int kOffsetBias = kOffsetStaged + kConsumers * kBytesStaged;
  static constexpr int kOffsetTickets = kOffsetBias + kConsumers * kMostN * 4;
  static constexpr int kOffsetBarriers = kOffsetTickets + 4 * kTickets;
  static constexpr int kShared = kOffsetBarriers + 8 * (2 * kStages + 2 * kTickets);
  static_assert(kShared <= kSharedLimit, "stages do not fit shared memory");
  static_assert(Up::kM >= Down::kM, "flags are of a row of the first product's tiles");
};

// Words of a launch in a tile slot: the next ticket, how many CTAs are through, and kFlags flags for each row of the
// first product's tiles, a lane each.
inline constexpr int kFlags = 32, kFirstFlag = 32;
static_assert(kFirstFlag + kOneLaunchRows * kFlags <= kTileSlotWords);

struct OneLaunchProduct {
  CUtensorMap a, b, b_up, out;
  const void* bias;  // null: none
  const void* bias_up;
  std::int64_t bias_stride, bias_up_stride;
  int columns, k_blocks, row_tiles, column_tiles;
};

struct OneLaunchParams {
  OneLaunchProduct up, down;
  FastActivation f;
  int up_tiles, tiles;  // of the first product, of both
  int flag_columns;     // column tiles of the first product that share a flag
  std::uint32_t* state;
};

// As gemm.cuh's tile_at, with groups of as many rows whatever the tile.
template <class P>
__device__ inline TileIndex tile_at(const OneLaunchProduct& p, int index) {
  constexpr int kRows = kGroup * 128 / P::kM;
  const int per_group = kRows * p.column_tiles;
  const int group = index / per_group;
  const int height = min(kRows, p.row_tiles - group * kRows);
  const int inside = index - group * per_group;
  return {group * kRows + inside % height, inside / height};
}

template <class T, class P>
__device__ inline float bias_at(const OneLaunchProduct& p, int first_column, int row) {
  const bool up = P::kGated && row >= P::kOut;
  const int column = first_column + (up ? row - P::kOut : row);
  const T* bias = static_cast<const T*>(up ? p.bias_up : p.bias);
  const std::int64_t stride = up ? p.bias_up_stride : p.bias_stride;
  return bias != nullptr && column < p.columns && row < P::kN ? static_cast<float>(bias[column * stride]) : 0.0f;
}

template <class T, bool kGated>
__global__ void __launch_bounds__(OneLaunch<kGated>::kThreads, 1) both(const __grid_constant__ OneLaunchParams p) {
  using L = OneLaunch<kGated>;
  using Up = typename L::Up;
  using Down = typename L::Down;
  constexpr int kStages = L::kStages, kConsumers = L::kConsumers;
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t full = shared + L::kOffsetBarriers;
  const std::uint32_t empty = full + 8 * kStages;
  const std::uint32_t ticket_full = empty + 8 * kStages;
  const std::uint32_t ticket_empty = ticket_full + 8 * L::kTickets;
  volatile int* const tickets = reinterpret_cast<volatile int*>(dynamic_shared + L::kOffsetTickets);
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const int warpgroup = warp / 4, lane = threadIdx.x % 32;

  // The slot is this launch's own, so that the first ticket need not wait for what is ahead.
  int ticket = 0;
  if (warp == 4 * kConsumers && lane == 0) ticket = static_cast<int>(atomicAdd(p.state, 1));
  if (warp == 0 && ptx::elect_one()) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(full + 8 * i, 2);
      ptx::mbarrier_init(empty + 8 * i, 4);
    }
    for (int i = 0; i < L::kTickets; ++i) {
      ptx::mbarrier_init(ticket_full + 8 * i, 1);
      ptx::mbarrier_init(ticket_empty + 8 * i, 1 + 4 * kConsumers);
    }
    ptx::mbarrier_init_fence();
  }
  if (warp == 4 && ptx::elect_one()) {
    ptx::prefetch_tensor_map(p.up.a);
    ptx::prefetch_tensor_map(p.up.b);
    if (kGated) ptx::prefetch_tensor_map(p.up.b_up);
    ptx::prefetch_tensor_map(p.up.out);
    ptx::prefetch_tensor_map(p.down.a);
    ptx::prefetch_tensor_map(p.down.b);
    ptx::prefetch_tensor_map(p.down.out);
  }
  __syncthreads();
  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();

  Ring<L::kTickets> known;
  auto take = [&]() -> int {
    ptx::mbarrier_wait(ticket_full + 8 * known.stage, known.parity);
    const int index = tickets[known.stage];
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(ticket_empty + 8 * known.stage);
    known.advance();
    return index;
  };
  Ring<kStages> ring;

  if (warpgroup == kConsumers) {
    ptx::registers_shrink<L::kProducerRegisters>();
    const int role = warp % 4;
    if (role == 0) {  // tickets and weights
      int index = __shfl_sync(0xffffffff, ticket, 0);
      auto load = [&]<class P>(const OneLaunchProduct& product, int tile) {
        const int column = tile_at<P>(product, tile).column * P::kOut;
        const int ask = max(product.k_blocks - 4, 0);  // the next ticket is here when this tile's weights are
        int next = 0;
        for (int k = 0; k < product.k_blocks; ++k, ring.advance()) {
          if (k == ask && lane == 0) next = static_cast<int>(atomicAdd(p.state, 1));
          ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
          if (ptx::elect_one()) {
            const std::uint32_t ready = full + 8 * ring.stage;
            const std::uint32_t to = shared + L::kOffsetB + ring.stage * L::kBytesB;
            ptx::mbarrier_arrive_expect(ready, P::kBytesB);
            ptx::tma_load(to, product.b, ready, k * kBlockK, column);
            if constexpr (P::kGated) ptx::tma_load(to + P::kOut * 128, product.b_up, ready, k * kBlockK, column);
          }
        }
        return __shfl_sync(0xffffffff, next, 0);
      };
      while (true) {
        ptx::mbarrier_wait(ticket_empty + 8 * known.stage, known.parity ^ 1);
        if (lane == 0) {
          tickets[known.stage] = index;
          ptx::mbarrier_arrive(ticket_full + 8 * known.stage);
        }
        known.advance();
        if (index >= p.tiles) break;
        index = index < p.up_tiles ? load.template operator()<Up>(p.up, index)
                                   : load.template operator()<Down>(p.down, index - p.up_tiles);
      }
    } else if (role == 1) {  // rows of the inputs and of the hidden
      auto load = [&]<class P>(const OneLaunchProduct& product, int k, int row) {
        ptx::mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
        if (ptx::elect_one()) {
          ptx::mbarrier_arrive_expect(full + 8 * ring.stage, P::kBytesA);
          ptx::tma_load(shared + ring.stage * L::kBytesA, product.a, full + 8 * ring.stage, k * kBlockK, row);
        }
        ring.advance();
      };
      int index = take();
      for (; index < p.up_tiles; index = take()) {
        const int row = tile_at<Up>(p.up, index).row * Up::kM;
        for (int k = 0; k < p.up.k_blocks; ++k) load.template operator()<Up>(p.up, k, row);
      }
      const auto wanted =
          static_cast<std::uint32_t>(max(0, min(p.flag_columns, p.up.column_tiles - lane * p.flag_columns)));
      for (; index < p.tiles; index = take()) {
        const int row = tile_at<Down>(p.down, index - p.up_tiles).row * Down::kM;
        const std::uint32_t* const flag = p.state + kFirstFlag + row / Up::kM * kFlags + lane;
        int ready = 0;  // columns of the hidden
        for (int k = 0; k < p.down.k_blocks; ++k) {
          const int needed = min((k + 1) * kBlockK, p.up.columns);
          if (needed > ready) {
            do {
              const unsigned missing = __ballot_sync(0xffffffff, ptx::load_acquire(flag) < wanted);
              ready = (missing == 0 ? kFlags : __ffs(static_cast<int>(missing)) - 1) * p.flag_columns * Up::kOut;
            } while (needed > ready);
            __syncwarp();
            ptx::fence_async();  // what others stored, before the copy engine reads it
          }
          load.template operator()<Down>(p.down, k, row);
        }
      }
      // The last CTA leaves the slot zeroed: nobody takes tickets or reads flags any more.
      std::uint32_t through = 0;
      if (lane == 0) {
        __threadfence();
        through = atomicAdd(p.state + 1, 1);
        __threadfence();
      }
      if (__shfl_sync(0xffffffff, through, 0) == gridDim.x - 1) {
        for (int i = lane; i < kFirstFlag + p.up.row_tiles * kFlags; i += 32) p.state[i] = 0;
      }
    }
  } else {
    ptx::registers_grow<L::kConsumerRegisters>();
    const int thread = threadIdx.x % 128;
    // Addresses of the ring's first stage, in the descriptors' unit.
    const std::uint32_t tile_a = shared >> 4;
    const std::uint32_t tile_b = (shared + L::kOffsetB) >> 4;
    const std::uint32_t staged = shared + L::kOffsetStaged + warpgroup * L::kBytesStaged;
    const std::uint32_t bias_shared = shared + L::kOffsetBias + warpgroup * L::kMostN * 4;
    const int named = 1 + warpgroup;       // barrier of this warpgroup
    constexpr int kTurn = 1 + kConsumers;  // and those by which one warpgroup lets the next one go ahead
    int position = 0;                      // of the tile among this CTA's

    auto multiply = [&]<class P, bool kFirst>(const OneLaunchProduct& product, int index) {
      const TileIndex tile = tile_at<P>(product, index);
      const int column = tile.column * P::kOut;
      const bool has_bias = product.bias != nullptr || product.bias_up != nullptr;
      const float bias = has_bias ? bias_at<T, P>(product, column, thread) : 0.0f;
      float d[P::kBlocks][P::kN / 2];
      if (position > 0) ptx::barrier_sync(kTurn + warpgroup, 256);
      std::uint32_t previous = 0;
      for (int k = 0; k < product.k_blocks; ++k) {
        ptx::mbarrier_wait(full + 8 * ring.stage, ring.parity);
        ptx::wgmma_fence();
        const std::uint32_t a_now = tile_a + ring.stage * (L::kBytesA >> 4);
        const std::uint32_t b_now = tile_b + ring.stage * (L::kBytesB >> 4);
#pragma unroll
        for (int i = 0; i < P::kBlocks; ++i) {
#pragma unroll
          for (int j = 0; j < kBlockK / 16; ++j) {
            ptx::Wgmma<T, P::kN>::run(d[i], ptx::wgmma_descriptor(a_now + (i * 8192 + j * 32 >> 4)),
                                      ptx::wgmma_descriptor(b_now + (j * 32 >> 4)), j > 0 || k > 0);
          }
        }
        ptx::wgmma_commit();
        if (k > 0) {
          ptx::wgmma_wait<1>();
          if (lane == 0) ptx::mbarrier_arrive(empty + 8 * previous);
        }
        previous = ring.stage;
        ring.advance();
      }
      ptx::barrier_arrive(kTurn + (warpgroup + 1 == kConsumers ? 0 : warpgroup + 1), 256);
      ptx::wgmma_wait<0>();
      if (lane == 0) ptx::mbarrier_arrive(empty + 8 * previous);

      if (has_bias) {
        static_assert(P::kN <= 128);
        if (thread < P::kN) ptx::store_shared(bias_shared + 4 * thread, bias);
        ptx::barrier_sync(named, 128);
#pragma unroll
        for (int j = 0; j < P::kN / 8; ++j) {
          const float2 pair = ptx::load_shared_pair(bias_shared + 32 * j + 8 * (lane % 4));
#pragma unroll
          for (int i = 0; i < P::kBlocks; ++i) {
            d[i][4 * j] += pair.x;
            d[i][4 * j + 1] += pair.y;
            d[i][4 * j + 2] += pair.x;
            d[i][4 * j + 3] += pair.y;
          }
        }
      }
      constexpr int kBoxes = P::kRound / P::kBox;
      const int row = tile.row * P::kM;
#pragma unroll
      for (int i = 0; i < P::kBlocks; ++i) {
#pragma unroll
        for (int round = 0; round < P::kOut / P::kRound; ++round) {
          std::uint32_t out[kBoxes][P::kBox / 4];
#pragma unroll
          for (int box = 0; box < kBoxes; ++box) {
            const float* const from = d[i] + (round * kBoxes + box) * (P::kBox / 2);
            if constexpr (kFirst) {
              finish<T, P>(p.f, from, out[box]);
            } else {
              finish<T, P, Shape::identity>(p.f, from, out[box]);
            }
          }
          if (thread == 0) ptx::tma_store_wait_read<0>();
          ptx::barrier_sync(named, 128);
#pragma unroll
          for (int box = 0; box < kBoxes; ++box) stage_output<P>(staged + box * (128 * P::kBox), out[box]);
          ptx::fence_async_shared();
          ptx::barrier_sync(named, 128);
          if (thread == 0) {
#pragma unroll
            for (int box = 0; box < kBoxes; ++box) {
              ptx::tma_store(product.out, staged + box * (128 * P::kBox), column + round * P::kRound + box * P::kBox,
                             row + 64 * i);
            }
            ptx::tma_store_commit();
          }
        }
      }
      if (kFirst && thread == 0) {
        ptx::tma_store_wait();
        ptx::fence_async();
        ptx::add_release(p.state + kFirstFlag + tile.row * kFlags + tile.column / p.flag_columns, 1);
      }
    };

    int index = take();
    // Past the tiles of the other warpgroups.
    auto skip = [&](int others) {
      for (int i = 0; i < others && index < p.tiles; ++i) {
        ring.advance(static_cast<std::uint32_t>(index < p.up_tiles ? p.up.k_blocks : p.down.k_blocks));
        index = take();
        ++position;
      }
    };
    auto next = [&] {
      index = take();
      ++position;
      skip(kConsumers - 1);
    };
    skip(warpgroup);
    for (; index < p.up_tiles; next()) multiply.template operator()<Up, true>(p.up, index);
    for (; index < p.tiles; next()) multiply.template operator()<Down, false>(p.down, index - p.up_tiles);
    // The turn after the last tile, which nobody needs.
    if (position > 0 && position % kConsumers == warpgroup) ptx::barrier_sync(kTurn + warpgroup, 256);
    if (thread == 0) ptx::tma_store_wait();
  }
}

template <class T, class P>
Status fill(OneLaunchProduct& product, const Gemm& g) {
  constexpr DType kDType = std::is_same_v<T, __half> ? DType::f16 : DType::bf16;
  const Weight& first = P::kGated ? g.gate : g.w;
  if (Status status = encode_tensor_map(product.a, kDType, {g.a, g.m, g.k, g.lda}, P::kM, kBlockK); !status)
    return status;
  if (Status status =
          encode_tensor_map(product.b, kDType, {first.data, g.n, g.k, first.row_stride}, P::kOut, kBlockK);
      !status)
    return status;
  if (P::kGated) {
    if (Status status =
            encode_tensor_map(product.b_up, kDType, {g.w.data, g.n, g.k, g.w.row_stride}, P::kOut, kBlockK);
        !status)
      return status;
  }
  if (Status status = encode_tensor_map(product.out, kDType, {g.out, g.m, g.n, g.ldo}, 64, P::kBox); !status)
    return status;
  const Bias& bias = P::kGated ? g.gate_bias : g.bias;
  product.bias = bias.data;
  product.bias_stride = bias.stride;
  if (P::kGated) {
    product.bias_up = g.bias.data;
    product.bias_up_stride = g.bias.stride;
  }
  product.columns = g.n;
  product.k_blocks = (g.k + kBlockK - 1) / kBlockK;
  product.row_tiles = static_cast<int>((g.m + P::kM - 1) / P::kM);
  product.column_tiles = (g.n + P::kOut - 1) / P::kOut;
  return {};
}

template <class T, bool kGated>
Status launch_both(const OneLaunchCall& call, cudaStream_t stream) {
  using L = OneLaunch<kGated>;
  OneLaunchParams p{};
  if (Status status = fill<T, typename L::Up>(p.up, call.hidden); !status) return status;
  if (Status status = fill<T, typename L::Down>(p.down, call.out); !status) return status;
  p.f = call.activation;
  p.up_tiles = p.up.row_tiles * p.up.column_tiles;
  p.tiles = p.up_tiles + p.down.row_tiles * p.down.column_tiles;
  p.flag_columns = (p.up.column_tiles + kFlags - 1) / kFlags;
  Launch how;
  how.grid = static_cast<unsigned>(std::min(p.tiles, call.sms));
  how.block = L::kThreads;
  how.shared_bytes = L::kShared;
  how.stream = stream;
  how.overlaps_predecessor = true;
  if (recording() != nullptr) {
    how.what = describe_one_launch(kGated);
    return launch<both<T, kGated>>(kName, how, L::kShared, p);
  }
  return with_tile_slot(stream, [&](std::uint32_t* words) {
    p.state = words;
    return launch<both<T, kGated>>(kName, how, L::kShared, p);
  });
}

}  // namespace fusedmlp::cuda::sm90
