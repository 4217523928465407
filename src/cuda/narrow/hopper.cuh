// A whole MLP of width <= 256 in one launch on Hopper: the hidden never leaves the registers.
//
// A persistent CTA of three warpgroups. Each of two takes 64 tokens at a time: their inputs in shared memory, their
// outputs in accumulators. It goes through the hidden in chunks: wgmma makes a chunk of it from the input tile and
// the first weights, bias and activation turn the accumulators into packed pairs, which are the A operand of the
// second product where they are. A step is the second product of one chunk and the first one of the next, also across
// tiles; while one warpgroup activates, the tensor cores work for the other.
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
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 8 * Tile::kUnits;
  const std::uint32_t full_x = empty + 8 * kStages;  // [warpgroup][buffer]
  const std::uint32_t empty_x = full_x + 8 * kConsumers * Tile::kInputs;
  const std::uint32_t full_down_bias = empty_x + 8 * kConsumers * Tile::kInputs;
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const int warpgroup = warp / 4, lane = static_cast<int>(threadIdx.x % 32);

  if (warp == 0 && ptx::elect_one()) {
    for (int i = 0; i < Tile::kUnits; ++i) ptx::mbarrier_init(full + 8 * i, i % 2 == 0 ? 2 : 1);  // weights, biases
    for (int i = 0; i < kStages; ++i) ptx::mbarrier_init(empty + 8 * i, 4 * kConsumers);
    for (int i = 0; i < kConsumers * Tile::kInputs; ++i) {
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
  const int passes = p.resident ? 1 : rounds;  // through the weights

  if (warpgroup == kConsumers) {
    ptx::registers_shrink<kProducerRegisters>();
    const int role = warp % 4;
    if (role == 0) {
      ptx::grid_dependency_wait();
      fetch_weights<Tile>(p, passes, stages, full, empty);
    } else if (role == 1) {
      prepare_biases<T, Tile>(shared);
      ptx::grid_dependency_wait();
      store_bias<Tile::kWidth>(down_bias, [&](int column) {
        return column < p.out ? bias_at<T>(p.bias_down, column) * p.f.start_scale : 0.0f;
      });
      ptx::mbarrier_arrive(full_down_bias);  // every lane for what it wrote
      fetch_biases<T, Tile>(p, passes, biases, full, empty);
    } else if (role == 2) {
      ptx::grid_dependency_wait();
      sm90::Ring<Tile::kInputs> ring;
      for (int tile = block, wg = 0; tile < p.tiles; tile += grid, wg ^= 1) {
        const int buffer = wg * Tile::kInputs + static_cast<int>(ring.stage);
        ptx::mbarrier_wait(empty_x + 8 * buffer, ring.parity ^ 1);
        if (ptx::elect_one()) {
          ptx::mbarrier_arrive_expect(full_x + 8 * buffer, Tile::kInputBytes);
          for (int i = 0; i < Tile::kWidth / kBlock; ++i) {
            ptx::tma_load(shared + buffer * Tile::kInputBytes + i * (kTileRows * 128), p.x, full_x + 8 * buffer,
                          i * kBlock, tile * kTileRows);
          }
        }
        __syncwarp();
        if (wg == 1) ring.advance();
      }
    }
    return;
  }

  ptx::registers_grow<kConsumerRegisters>();
  const int own_rounds = (p.tiles - block - warpgroup * grid + kConsumers * grid - 1) / (kConsumers * grid);
  const int both_rounds = (p.tiles - block - grid + kConsumers * grid - 1) / (kConsumers * grid);  // of the second
  constexpr int kTurn = 1;                                                                         // named barriers
  sm90::Ring<Tile::kUnits> unit;                                                                   // to wait for next
  sm90::Ring<kStages> read;  // slice to read next
  sm90::Ring<Tile::kBiases> bias;
  std::uint32_t bias_now = biases;
  sm90::Ring<Tile::kInputs> input;
  float s[Tile::kRows / 2], o[Tile::kPieces][Tile::kOutRows / 2];
  std::uint32_t h[Tile::kChunk / 4];

  const auto wait_for_unit = [&] {
    ptx::mbarrier_wait(full + 8 * unit.stage, unit.parity);
    unit.advance();
  };
  // Of the slices read last.
  const auto release = [&](int slices) {
    if (p.resident || lane > 0) return;
#pragma unroll
    for (int i = slices; i > 0; --i) {
      const std::uint32_t stage = read.stage >= i ? read.stage - i : read.stage + kStages - i;
      ptx::mbarrier_arrive(empty + 8 * stage);
    }
  };
  const auto input_buffer = [&] { return warpgroup * Tile::kInputs + static_cast<int>(input.stage); };
  int chunk = 0;  // of the next first product
  const auto multiply_up = [&] {
    if (p.resident && chunk == 0) read = {};
    const std::uint32_t x = (shared + input_buffer() * Tile::kInputBytes) >> 4;
    // The biases as the sums' first terms: 1 from a row of ones that all rows share, and zeros.
    ptx::Wgmma<T, Tile::kRows>::run(
        s, ptx::wgmma_descriptor_plain(shared + Tile::kOffsetOnes, shared + Tile::kOffsetZeros, 0),
        ptx::wgmma_descriptor_plain(bias_now, shared + Tile::kOffsetZeros, kCoreBytes), 0);
#pragma unroll
    for (int i = 0; i < Tile::kUpSlices; ++i, read.advance()) {
      const std::uint32_t w = (stages + read.stage * Tile::kStageBytes) >> 4;
#pragma unroll
      for (int k = 0; k < Tile::kUpDepth; k += 16) {
        const int at_x = (i * Tile::kUpDepth + k) / kBlock * (kTileRows * 128) + k % kBlock * 2;
        const int at_w = k / kBlock * (Tile::kRows * 128) + k % kBlock * 2;
        ptx::Wgmma<T, Tile::kRows>::run(s, ptx::wgmma_descriptor(x + (at_x >> 4)),
                                        ptx::wgmma_descriptor(w + (at_w >> 4)), 1);
      }
    }
    ptx::wgmma_commit();
  };
  const auto multiply_down = [&] {
    constexpr int kSlices = Tile::kDownSlices / Tile::kPieces;  // of a piece
#pragma unroll
    for (int i = 0; i < Tile::kDownSlices; ++i, read.advance()) {
      const std::uint32_t w = (stages + read.stage * Tile::kStageBytes) >> 4;
#pragma unroll
      for (int k = 0; k < Tile::kDownDepth; k += 16) {
        const int at_w = k / kBlock * (Tile::kOutRows * 128) + k % kBlock * 2;
        ptx::Wgmma<T, Tile::kOutRows>::run(o[i / kSlices], h + (i % kSlices * Tile::kDownDepth + k) / 4,
                                           ptx::wgmma_descriptor(w + (at_w >> 4)), 1);
      }
    }
    ptx::wgmma_commit();
  };
  const auto initialise_outputs = [&] {
#pragma unroll
    for (int i = 0; i < Tile::kPieces; ++i) load_bias(down_bias + i * Tile::kOutRows * 4, o[i]);
  };

  const int steps = own_rounds * p.chunks;  // and one more for the last second product
  const int last_turn = both_rounds > 0 ? both_rounds * p.chunks : -1;
  const auto take_turn = [&](int step) {
    if (Tile::kTurns && step <= last_turn) ptx::barrier_sync(kTurn + warpgroup, 256);
    ptx::wgmma_fence();
  };
  const auto pass_turn = [&](int step) {
    if (Tile::kTurns && step <= last_turn) ptx::barrier_arrive(kTurn + 1 - warpgroup, 256);
  };

  int tile = warpgroup * grid + block;  // of the next outputs
  // Waits for a chunk's first weights and points `bias` to its biases.
  const auto wait_for_up = [&](int of_chunk) {
    if (p.resident && of_chunk == 0) {
      unit = {};
      bias = {};
    }
    bias_now = biases + bias.stage * Tile::kBiasBytes;
    bias.advance();
    wait_for_unit();
  };
  const auto wait_for_input = [&] {
    if (chunk == 0) ptx::mbarrier_wait(full_x + 8 * input_buffer(), input.parity);
  };
  // After the first product: everything of this chunk that is not a product.
  const auto finish_up = [&] {
    const bool last = chunk + 1 == p.chunks;
    if (last) {
      if (lane == 0) ptx::mbarrier_arrive(empty_x + 8 * input_buffer());
      input.advance();
    }
    activate_pairs<T, Tile::kGated, kForm...>(p.f, s, s + Tile::kRows / 4, h);
    if (const int units = p.hidden - chunk * Tile::kChunk; units < Tile::kChunk)
      mask_pairs<Tile::kChunk / 4>(h, units);
    chunk = last ? 0 : chunk + 1;
    pin(h);
  };
  const auto finish_tile = [&] {
    store_outputs<T, Tile::kWidth, Tile::kPieces>(o, p.f.end_scale, static_cast<T*>(p.y), p.ldy,
                                                  std::int64_t{tile} * kTileRows, p.tokens, p.out);
    tile += kConsumers * grid;
  };

  if (steps > 0) {
    if (Tile::kTurns && warpgroup == 1) ptx::barrier_arrive(kTurn, 256);
    ptx::mbarrier_wait(full_down_bias, 0);
    initialise_outputs();
    wait_for_up(0);
    wait_for_input();
    take_turn(0);
    multiply_up();
    pass_turn(0);
    ptx::wgmma_wait<0>();
    pin(s);
    release(Tile::kUpSlices);
    wait_for_unit();
    if (Tile::kMerged && steps > 1) wait_for_up(p.chunks > 1 ? 1 : 0);
    finish_up();
    for (int step = 1; step < steps; ++step) {
      const bool new_tile = chunk == 0;
      wait_for_input();
      take_turn(step);
      multiply_down();
      if constexpr (Tile::kMerged) {
        multiply_up();
        pass_turn(step);
      } else {
        wait_for_up(chunk);
      }
      const int next = chunk + 1 == p.chunks ? 0 : chunk + 1;
      constexpr bool kEarly = Tile::kMerged && Tile::kStages >= 2 * Tile::kSlices;
      if constexpr (kEarly) {
        wait_for_unit();
        if (step + 1 < steps) wait_for_up(next);
      }
      ptx::wgmma_wait<0>();
      if (Tile::kMerged) pin(s);
      pin(o);
      release(Tile::kDownSlices + (Tile::kMerged ? Tile::kUpSlices : 0));
      if (new_tile) {
        finish_tile();
        initialise_outputs();
      }
      if constexpr (!Tile::kMerged) {
        ptx::wgmma_fence();
        multiply_up();
        pass_turn(step);
        wait_for_unit();
        ptx::wgmma_wait<0>();
        pin(s);
        release(Tile::kUpSlices);
      } else if constexpr (!kEarly) {
        wait_for_unit();
        if (step + 1 < steps) wait_for_up(next);
      }
      finish_up();
    }
    take_turn(steps);
    multiply_down();
    pass_turn(steps);
    ptx::wgmma_wait<0>();
    pin(o);
    release(Tile::kDownSlices);
    finish_tile();
  }
  if (!p.resident && own_rounds < rounds) {  // the other one has the last tile
    for (int i = 0; i < p.chunks; ++i) {
      for (const int slices : {Tile::kUpSlices, Tile::kDownSlices}) {
        wait_for_unit();
        read.advance(slices);
        release(slices);
      }
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
  p.y = second.out;
  p.ldy = second.ldo;
  p.tokens = second.m;
  p.f = call.activation;
  p.hidden = first.n;
  p.out = second.n;
  p.chunks = (first.n + Tile::kChunk - 1) / Tile::kChunk;
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
  using Widest = Tile<256, false, false, false>;
  switch (call.activation.form) {
    case Form::identity: return launch_hopper<T, Widest, Form::identity>(call, stream);
    case Form::relu: return launch_hopper<T, Widest, Form::relu>(call, stream);
    case Form::relu2: return launch_hopper<T, Widest, Form::relu2>(call, stream);
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
    case 64: return launch_hopper<T, Tile<64, kGated, true, true>>(call, stream);
    case 128: return launch_hopper<T, Tile<128, kGated, true, true>>(call, stream);
    case 192: return launch_hopper<T, Tile<192, kGated, kGated, false>>(call, stream);
    default:
      if constexpr (kGated) {
        return launch_hopper<T, Tile<256, true, false, false>>(call, stream);
      } else {
        return launch_widest<T>(call, stream);
      }
  }
}

}  // namespace fusedmlp::cuda::narrow
