// A whole MLP of width <= 256 in one launch on Hopper: the hidden never leaves the registers.
//
// A persistent CTA of three warpgroups. Each of two takes 64 tokens at a time, their outputs in accumulators, and
// goes through the hidden in chunks: wgmma makes a chunk of it from the inputs and the first weights, the activation
// turns the accumulators into packed pairs, which are the A operand of the second product where they are. A step
// activates one chunk, beside the second product of the chunk before, also across tiles; the tensor cores work for
// both warpgroups. What counts are the clocks in which they issue anything else: hence inputs in registers where
// there is room, addresses in uniform registers, outputs through the copy engine.
//
// The third warpgroup's warps fetch: weights, in slices, into a ring of shared-memory stages that both warpgroups
// read (or, where all of them fit, once for all tiles); biases of the hidden, which the tensor cores add; inputs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda/common/launch.h"
#include "cuda/narrow/activation.cuh"
#include "cuda/narrow/hopper_fetch.cuh"
#include "cuda/narrow/hopper_parts.cuh"
#include "cuda/narrow/hopper_tile.cuh"
#include "cuda/narrow/narrow.h"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/sync.cuh"
#include "cuda/ptx/tma.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/sm90/ring.cuh"
#include "cuda/sm90/tensor_map.h"

namespace fusedmlp::cuda::narrow {

// kForm: the activation, where it is known; else p.f.form decides.
template <class T, class Tile, Form... kForm>
__global__ void __launch_bounds__(kThreads, 1) hopper(const __grid_constant__ HopperParams p) {
  constexpr int kStages = Tile::kStages;
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];  // swizzled tiles start at multiples of 1024
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t stages = shared + Tile::kOffsetRing;
  const std::uint32_t biases = shared + Tile::kOffsetBias, down_bias = shared + Tile::kOffsetDownBias;
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 16 * Tile::kPlaces;
  const std::uint32_t full_x = empty + 8 * kStages, empty_x = full_x + 8 * kConsumers;  // of each warpgroup
  const std::uint32_t full_down_bias = empty_x + 8 * kConsumers;
  const int warp = static_cast<int>(uniform(threadIdx.x / 32));
  const int warpgroup = warp / 4, lane = static_cast<int>(threadIdx.x % 32);

  if (warp == 0 && ptx::elect_one()) {
    for (int i = 0; i < 2 * Tile::kPlaces; ++i) ptx::mbarrier_init(full + 8 * i, i % 2 == 0 ? 2 : 1);  // biases too
    for (int i = 0; i < kStages; ++i) ptx::mbarrier_init(empty + 8 * i, 4 * kConsumers);
    for (int i = 0; i < kConsumers; ++i) {
      ptx::mbarrier_init(full_x + 8 * i, 1);
      ptx::mbarrier_init(empty_x + 8 * i, 4);
    }
    ptx::mbarrier_init(full_down_bias, 32);
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  ptx::grid_dependency_launch();

  const int grid = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  // Tile `round` of warpgroup w is number (round * kConsumers + w) * grid + block.
  const int rounds = (p.tiles - block + kConsumers * grid - 1) / (kConsumers * grid);
  // Those of all tiles, and kLag whose second weights alone are used.
  const int pairs = p.resident ? p.chunks : rounds * p.chunks + Tile::kLag;

  if (warpgroup == kConsumers) {
    ptx::registers_shrink<kProducerRegisters>();
    const int role = warp % 4;
    if (role == 0) {
      ptx::grid_dependency_wait();
      fetch_weights<Tile>(p, pairs, stages, full, empty);
    } else if (role == 1) {
      prepare_biases<T, Tile>(shared);
      ptx::grid_dependency_wait();
      store_bias<Tile::kWidth>(down_bias,
                               [&](int column) { return column < p.out ? bias_at<T>(p.bias_down, column) : 0.0f; });
      ptx::mbarrier_arrive(full_down_bias);  // every lane for what it wrote
      fetch_biases<T, Tile>(p, pairs, biases, full, empty);
    } else if (role == 2) {
      ptx::grid_dependency_wait();
      std::uint32_t parity = 1;
      for (int tile = block, wg = 0; tile < p.tiles; tile += grid) {
        ptx::mbarrier_wait(empty_x + 8 * wg, parity);
        if (ptx::elect_one()) {
          ptx::mbarrier_arrive_expect(full_x + 8 * wg, Tile::kInputBytes);
          for (int i = 0; i < Tile::kWidth / kBlock; ++i) {
            ptx::tma_load(shared + wg * Tile::kInputBytes + i * (kTileRows * 128), p.x, full_x + 8 * wg, i * kBlock,
                          tile * kTileRows);
            if (!Tile::kHeld && tile + kConsumers * grid < p.tiles)
              ptx::tma_prefetch(p.x, i * kBlock, (tile + kConsumers * grid) * kTileRows);
          }
        }
        __syncwarp();
        parity ^= static_cast<std::uint32_t>(wg);
        wg ^= 1;
      }
    }
    return;
  }

  ptx::registers_grow<kConsumerRegisters>();
  const int own_rounds = (p.tiles - block - warpgroup * grid + kConsumers * grid - 1) / (kConsumers * grid);
  const int steps = own_rounds * p.chunks;
  const std::uint32_t input = shared + warpgroup * Tile::kInputBytes;
  int chunk = 0;                        // of the activation
  int tile = warpgroup * grid + block;  // of the next outputs
  std::uint32_t input_parity = 0;
  sm90::Ring<kStages> pair;         // its first slice
  sm90::Ring<Tile::kPlaces> place;  // its barriers and biases, where that does not follow
  float s[Tile::kLag][Tile::kRows / 2], o[Tile::kPieces][Tile::kOutRows / 2];
  std::uint32_t h[Tile::kChunk / 4], x[Tile::kHeld ? Tile::kWidth / 4 : 4];

  const auto slice = [&](std::uint32_t first, std::uint32_t i) {
    const std::uint32_t stage = first + i;
    return Tile::kWhole || stage < kStages ? stage : stage - kStages;
  };
  const auto next_pair = [&](bool last) {  // of a tile
    if (p.resident && last) {
      pair = {};
      place = {};
      return;
    }
    std::uint32_t stage = pair.stage + Tile::kSlices;
    if (stage >= kStages) {
      stage -= kStages;
      pair.parity ^= 1;
    }
    pair.stage = uniform(stage);
    if (!Tile::kWhole) place.advance();
  };
  const auto wait_for = [&](int product) {
    const std::uint32_t at = Tile::kWhole ? pair.stage / Tile::kSlices : place.stage;
    ptx::mbarrier_wait(full + 16 * at + 8 * product, Tile::kWhole ? pair.parity : place.parity);
  };
  const auto wait_for_up = [&] { wait_for(0); };
  const auto wait_for_down = [&] { wait_for(1); };
  // Before a step. Where the ring has no room for two pairs, a step waits for the second weights when it has released
  // the first ones.
  const auto wait_for_pair = [&] {
    wait_for_up();
    if (Tile::kWhole) wait_for_down();
  };
  const auto release = [&](std::uint32_t first, int begin, int end) {
    if (p.resident || lane > 0) return;
#pragma unroll
    for (int i = begin; i < end; ++i) ptx::mbarrier_arrive(empty + 8 * slice(first, i));
  };
  const auto release_input = [&] {
    if (lane == 0) ptx::mbarrier_arrive(empty_x + 8 * warpgroup);
  };

  // A chunk's first product, the tile's first one or not. Past the last tile it is of no use.
  const auto multiply_up = [&](float(&to)[Tile::kRows / 2], bool first) {
    if (first) {
      ptx::mbarrier_wait(full_x + 8 * warpgroup, input_parity);
      input_parity ^= 1;
      if constexpr (Tile::kHeld) load_inputs(input, x);
    }
    if constexpr (Tile::kHeld) pin(x);
    ptx::wgmma_fence();
    // The biases as the sums' first terms: beside the input of 1, or a row with it that all rows share.
    const std::uint32_t from = uniform(input), zeros = shared + Tile::kOffsetZeros;
    const std::uint32_t table = Tile::kWhole ? pair.stage / Tile::kSlices : uniform(place.stage);
    const std::uint64_t first_terms =
        ptx::wgmma_descriptor_plain(biases + table * Tile::kBiasBytes, zeros, kCoreBytes);
    if constexpr (Tile::kHeld) {
      const std::uint32_t one = lane % 4 == 0 ? pack<T>(1, 0) : 0;
      const std::uint32_t ones[4] = {one, one, 0, 0};
      ptx::Wgmma<T, Tile::kRows>::run(to, ones, first_terms, 0);
    } else {
      ptx::Wgmma<T, Tile::kRows>::run(to, ptx::wgmma_descriptor_plain(shared + Tile::kOffsetOnes, zeros, 0),
                                      first_terms, 0);
    }
#pragma unroll
    for (int i = 0; i < Tile::kUpSlices; ++i) {
      const std::uint32_t w = (stages + slice(pair.stage, i) * Tile::kStageBytes) >> 4;
#pragma unroll
      for (int k = 0; k < Tile::kUpDepth; k += 16) {
        const int column = i * Tile::kUpDepth + k;
        const std::uint64_t b = ptx::wgmma_descriptor(w + ((k / kBlock * Tile::kRows * 128 + k % kBlock * 2) >> 4));
        if constexpr (Tile::kHeld) {
          ptx::Wgmma<T, Tile::kRows>::run(to, x + column / 4, b, 1);
        } else {
          const int at = column / kBlock * (kTileRows * 128) + column % kBlock * 2;
          ptx::Wgmma<T, Tile::kRows>::run(to, ptx::wgmma_descriptor((from + at) >> 4), b, 1);
        }
      }
    }
    ptx::wgmma_commit();
    // Not before: an arrival does not wait for loads that nothing has used yet, and overtakes them.
    if (Tile::kHeld && first) release_input();
  };
  // After it, the tile's last one or not.
  const auto release_up = [&](std::uint32_t first, bool last) {
    release(first, 0, Tile::kUpSlices);
    if (!Tile::kHeld && last) release_input();
  };
  // The second product of chunk `of`.
  const auto multiply_down = [&](int of) {
    constexpr int kSlices = Tile::kDownSlices / Tile::kPieces;  // of a piece
#pragma unroll
    for (int i = 0; i < Tile::kDownSlices; ++i) {
      const std::uint32_t w = (stages + slice(pair.stage, Tile::kUpSlices + i) * Tile::kStageBytes) >> 4;
#pragma unroll
      for (int k = 0; k < Tile::kDownDepth; k += 16) {
        const std::uint64_t b =
            ptx::wgmma_descriptor(w + ((k / kBlock * Tile::kOutRows * 128 + k % kBlock * 2) >> 4));
        const bool first = i % kSlices + k == 0;
        ptx::Wgmma<T, Tile::kOutRows>::run(o[i / kSlices], h + (i % kSlices * Tile::kDownDepth + k) / 4, b,
                                           first ? of : 1);
      }
    }
    ptx::wgmma_commit();
  };
  const auto finish_tile = [&] {
    const std::uint32_t staging = shared + Tile::kOffsetStaging + warp * (Tile::kStaged * kPieceBytes);
    const int row = tile * kTileRows + warp % 4 * 16;
    if (p.out % 8 == 0) {
      store_outputs<T, Tile::kStaged, true>(o, p.f.end_scale, down_bias, staging, p, row);
    } else {
      store_outputs<T, Tile::kStaged, false>(o, p.f.end_scale, down_bias, staging, p, row);
    }
    tile += kConsumers * grid;
  };
  // Activates the chunk in `now`; its predecessor's second product, of nothing in the first step, and the first
  // product into `next`, which may be `now`, are under way meanwhile.
  const auto take_step = [&](float(&next)[Tile::kRows / 2], float(&now)[Tile::kRows / 2], int step, bool may_finish) {
    const int next_chunk = chunk + 1 == p.chunks ? 0 : chunk + 1;
    const int up = Tile::kAhead ? next_chunk : chunk;
    const bool last = up + 1 == p.chunks;
    multiply_up(next, up == 0 && step + Tile::kLag <= steps);
    const std::uint32_t done = pair.stage;
    const int down = chunk == 0 ? p.chunks - 1 : chunk - 1;
    if constexpr (Tile::kWhole) multiply_down(down);
    if constexpr (!Tile::kAhead) {
      ptx::wgmma_wait<Tile::kWhole ? 1 : 0>();
      pin(now);
      release_up(done, last);
    }
    if constexpr (!Tile::kWhole) {
      wait_for_down();
      ptx::wgmma_fence();
      multiply_down(down);
    }
    activate_values<T, Tile::kGated, Tile::kChunk / 2, kForm...>(p.f, now);
    pin(now);
    next_pair(last);
    wait_for_pair();  // a branch, across which ptxas does not move the activation behind the wait below
    ptx::wgmma_wait<0>();
    pin(o);
    if constexpr (Tile::kAhead) {
      pin(next);
      release_up(done, last);
    }
    release(done, Tile::kUpSlices, Tile::kSlices);
    if (may_finish && chunk == 0 && step > 0) finish_tile();
    pack_pairs<T>(now, h);
    if (const int units = p.hidden - chunk * Tile::kChunk; units < Tile::kChunk)
      mask_pairs<Tile::kChunk / 4>(h, units);
    chunk = next_chunk;
    pin(h);
  };

  if (steps > 0) {
    ptx::mbarrier_wait(full_down_bias, 0);
#pragma unroll
    for (std::uint32_t& pair_of_none : h) pair_of_none = 0;
    wait_for_pair();
    if constexpr (Tile::kAhead) {
      multiply_up(s[0], true);
      ptx::wgmma_wait<0>();
      pin(s[0]);
      release_up(pair.stage, false);
      release(pair.stage, Tile::kUpSlices, Tile::kSlices);
      next_pair(false);
      wait_for_pair();
      for (int step = 0; step < steps; step += 2) {  // a tile has an even number
        take_step(s[1], s[0], step, true);
        take_step(s[0], s[1], step + 1, false);
      }
    } else {
      for (int step = 0; step < steps; ++step) take_step(s[0], s[0], step, true);
    }
    release(pair.stage, 0, Tile::kUpSlices);
    if (!Tile::kWhole) wait_for_down();
    ptx::wgmma_fence();
    multiply_down(p.chunks - 1);
    ptx::wgmma_wait<0>();
    pin(o);
    release(pair.stage, Tile::kUpSlices, Tile::kSlices);
    next_pair(false);
    finish_tile();
    ptx::tma_store_wait();
  }
  // The other one may have a tile more: let its weights pass.
  if (!p.resident) {
    for (int i = steps > 0 ? steps + Tile::kLag : 0; i < pairs; ++i) {
      wait_for_up();
      release(pair.stage, 0, Tile::kUpSlices);
      wait_for_down();
      release(pair.stage, Tile::kUpSlices, Tile::kSlices);
      next_pair(false);
    }
  }
}

template <class T, class Tile, Form... kForm>
Status launch_hopper(const NarrowCall& call, cudaStream_t stream) {
  constexpr DType kDType = std::is_same_v<T, __half> ? DType::f16 : DType::bf16;
  const Gemm& first = call.gemms.hidden;
  const Gemm& second = call.gemms.out;
  HopperParams p{};
  const auto map = [](CUtensorMap& to, const sm90::Matrix& matrix, int box_rows) {
    return sm90::encode_tensor_map(to, kDType, matrix, box_rows, kBlock);
  };
  if (Status status = map(p.x, {first.a, first.m, first.k, first.lda}, kTileRows); !status) return status;
  if (Status status = map(p.up, {first.w.data, first.n, first.k, first.w.row_stride}, Tile::kChunk); !status)
    return status;
  if (Tile::kGated) {
    const Weight& gate = first.gate;
    if (Status status = map(p.gate, {gate.data, first.n, first.k, gate.row_stride}, Tile::kChunk); !status)
      return status;
  }
  if (Status status = map(p.down, {second.w.data, second.n, second.k, second.w.row_stride}, Tile::kOutRows); !status)
    return status;
  p.bias_up = first.bias;
  p.bias_gate = first.gate_bias;
  p.bias_down = second.bias;
  if (Status status = map(p.y, {second.out, second.m, second.n, second.ldo}, kTileRows / 4); !status) return status;
  p.outputs = second.out;
  p.ldy = second.ldo;
  p.tokens = second.m;
  p.f = call.activation;
  p.hidden = first.n;
  p.out = second.n;
  p.chunks = (first.n + Tile::kLag * Tile::kChunk - 1) / (Tile::kLag * Tile::kChunk) * Tile::kLag;  // an even number
  p.tiles = static_cast<int>((first.m + kTileRows - 1) / kTileRows);
  p.resident = p.chunks * Tile::kSlices <= Tile::kStages;
  Launch how;
  how.grid = static_cast<unsigned>(std::min(p.tiles, call.sms));
  how.block = kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = true;
  return launch<hopper<T, Tile, kForm...>>(kHopperName, how, Tile::kShared, p);
}

// 256 columns, plain: the accumulators leave no room for a branch between activations.
template <class T>
Status launch_widest(const NarrowCall& call, cudaStream_t stream) {
  using Widest = Tile<256, false, 64, true>;
  using OneSet = Tile<256, false, 64, false>;  // where ptxas finds no registers for two sets of accumulators
  switch (call.activation.form) {
    case Form::identity: return launch_hopper<T, Widest, Form::identity>(call, stream);
    case Form::relu: return launch_hopper<T, OneSet, Form::relu>(call, stream);
    case Form::relu2: return launch_hopper<T, OneSet, Form::relu2>(call, stream);
    case Form::sigmoid: return launch_hopper<T, Widest, Form::sigmoid>(call, stream);
    case Form::normal: return launch_hopper<T, Widest, Form::normal>(call, stream);
    case Form::tanh_normal: return launch_hopper<T, Widest, Form::tanh_normal>(call, stream);
    case Form::logistic: return launch_hopper<T, Widest, Form::logistic>(call, stream);
    case Form::clamped: break;  // gated alone
  }
  return Status(StatusCode::internal, "", "no such plain activation");
}

template <class T, bool kGated>
Status launch_any_hopper(const NarrowCall& call, cudaStream_t stream) {
  switch (padded_width(call.gemms.hidden.k, call.gemms.out.n)) {
    case 64: return launch_hopper<T, Tile<64, kGated, 128, false>>(call, stream);
    case 128: return launch_hopper<T, Tile<128, kGated, 128, false>>(call, stream);
    case 192: return launch_hopper<T, Tile<192, kGated, kGated ? 128 : 64, false>>(call, stream);
    default:
      if constexpr (kGated) {
        return launch_hopper<T, Tile<256, true, 128, false>>(call, stream);
      } else {
        return launch_widest<T>(call, stream);
      }
  }
}

}  // namespace fusedmlp::cuda::narrow
