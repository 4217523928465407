// A whole MLP of width <= 256 in one launch on Hopper: the hidden never leaves the registers.
//
// A persistent CTA of three or four warpgroups. All but the last take 64 tokens at a time, their outputs in
// accumulators, and go through the hidden in chunks: wgmma makes a chunk of it from the inputs and the first weights,
// the activation turns the accumulators into packed pairs, which are the A operand of the second product where they
// are. A warpgroup does one after the other but for parts of a chunk, so that three of them fit the registers up to
// 192 columns: while one activates, the tensor cores work for the others. What is left between products are waits and
// addresses: hence addresses in uniform registers, barriers polled while products are under way, outputs through the
// copy engine.
//
// The last warpgroup's warps fetch: weights, in slices, into a ring of shared-memory stages that all warpgroups read
// (or, where all of them fit, once for all tiles); biases of the hidden, which accumulators start from; inputs.
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

// kEights: rows of outputs are multiples of 16 bytes. kForm: the activation, where it is known; else p.f.form
// decides.
template <class T, class Tile, bool kEights, Form... kForm>
__global__ void __launch_bounds__(Tile::kThreads, 1) hopper(const __grid_constant__ HopperParams p) {
  constexpr int kStages = Tile::kStages, kConsumers = Tile::kConsumers, kChunk = Tile::kChunk;
  extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];  // swizzled tiles start at multiples of 1024
  const std::uint32_t shared = ptx::shared_address(dynamic_shared);
  const std::uint32_t stages = shared + Tile::kOffsetRing;
  const std::uint32_t biases = shared + Tile::kOffsetBias, down_bias = shared + Tile::kOffsetDownBias;
  const std::uint32_t full = shared + Tile::kOffsetBarriers, empty = full + 16 * Tile::kPlaces;
  const std::uint32_t full_x = empty + 8 * kStages, empty_x = full_x + 8 * kConsumers;  // of each warpgroup
  const std::uint32_t full_down_bias = empty_x + 8 * kConsumers;
  const int warp = static_cast<int>(uniform(threadIdx.x / 32));
  const int warpgroup = warp / 4, lane = static_cast<int>(threadIdx.x % 32);
  // A chunk's first slice is released by every lane, for its biases, which lanes read; the others by one of a warp.
  constexpr auto all_release = [](int stage) { return !Tile::kWhole || stage % Tile::kSlices == 0; };

  if (warp == 0 && ptx::elect_one()) {
    for (int i = 0; i < 2 * Tile::kPlaces; ++i)
      ptx::mbarrier_init(full + 8 * i, i % 2 == 0 ? 1 + 32 : 1);  // biases too
    for (int i = 0; i < kStages; ++i) ptx::mbarrier_init(empty + 8 * i, (all_release(i) ? 128 : 4) * kConsumers);
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
  const int pairs = p.resident ? p.chunks : rounds * p.chunks;

  if (warpgroup == kConsumers) {
    ptx::registers_shrink<kProducerRegisters>();
    const int role = warp % 4;
    if (role == 0) {
      ptx::grid_dependency_wait();
      fetch_weights<Tile>(p, pairs, stages, full, empty);
    } else if (role == 1) {
      ptx::grid_dependency_wait();
      store_bias<Tile::kWidth>(down_bias,
                               [&](int column) { return column < p.out ? bias_at<T>(p.bias_down, column) : 0.0f; });
      ptx::mbarrier_arrive(full_down_bias);  // every lane for what it wrote
      fetch_biases<T, Tile>(p, pairs, biases, full, empty);
    } else if (role == 2) {
      ptx::grid_dependency_wait();
      fetch_inputs<Tile>(p, shared, full_x, empty_x);
    }
    return;
  }

  ptx::registers_grow<Tile::kConsumerRegisters>();
  const int own_rounds = (p.tiles - block - warpgroup * grid + kConsumers * grid - 1) / (kConsumers * grid);
  const int steps = own_rounds * p.chunks;
  const std::uint32_t input = shared + warpgroup * Tile::kInputBytes;
  int chunk = 0;
  int tile = warpgroup * grid + block;
  std::uint32_t input_parity = 0;
  sm90::Ring<kStages> pair;         // its first slice
  sm90::Ring<Tile::kPlaces> place;  // its barriers and biases, where that does not follow
  float s[Tile::kRows / 2], o[Tile::kPieces][Tile::kOutRows / 2];
  std::uint32_t h[kChunk / 4];

  const auto slice = [&](std::uint32_t first, std::uint32_t i) {
    const std::uint32_t stage = first + i;
    return Tile::kWhole || stage < kStages ? stage : stage - kStages;
  };
  const auto place_now = [&] { return Tile::kWhole ? pair.stage / Tile::kSlices : uniform(place.stage); };
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
  const auto release = [&](std::uint32_t first, int begin, int end) {
    if (p.resident) return;
#pragma unroll
    for (int i = begin; i < end; ++i) {
      if (lane == 0 || all_release(i)) ptx::mbarrier_arrive(empty + 8 * slice(first, i));
    }
  };
  const auto release_up = [&](std::uint32_t first) { release(first, 0, Tile::kUpSlices); };
  const auto release_down = [&](std::uint32_t first) { release(first, Tile::kUpSlices, Tile::kSlices); };

  // A chunk's first product.
  const auto multiply_up = [&] {
    if (chunk == 0) {
      ptx::mbarrier_wait(full_x + 8 * warpgroup, input_parity);
      input_parity ^= 1;
    }
    const std::uint32_t table = biases + place_now() * Tile::kBiasBytes;
#pragma unroll
    for (int i = 0; i < Tile::kRows / 16; ++i) {
      const float4 b = load_bias(table, i);
      float* const d = s + 8 * i;
      d[0] = d[2] = b.x;
      d[1] = d[3] = b.y;
      d[4] = d[6] = b.z;
      d[5] = d[7] = b.w;
    }
    pin(s);
    ptx::wgmma_fence();
    const std::uint32_t from = uniform(input);
#pragma unroll
    for (int i = 0; i < Tile::kUpSlices; ++i) {
      const std::uint32_t w = (stages + slice(pair.stage, i) * Tile::kStageBytes) >> 4;
#pragma unroll
      for (int k = 0; k < Tile::kUpDepth; k += 16) {
        const int column = i * Tile::kUpDepth + k;
        const int at = column / kBlock * (kTileRows * 128) + column % kBlock * 2;
        ptx::Wgmma<T, Tile::kRows>::run(
            s, ptx::wgmma_descriptor((from + at) >> 4),
            ptx::wgmma_descriptor(w + ((k / kBlock * Tile::kRows * 128 + k % kBlock * 2) >> 4)), 1);
      }
    }
    ptx::wgmma_commit();
  };
  // The chunk's second product, of its units from `begin` to `end`.
  const auto multiply_down = [&](int begin, int end) {
    constexpr int kSlices = Tile::kDownSlices / Tile::kPieces;  // of a piece
#pragma unroll
    for (int piece = 0; piece < Tile::kPieces; ++piece) {
#pragma unroll
      for (int unit = begin; unit < end; unit += 16) {
        const int i = piece * kSlices + unit / Tile::kDownDepth, k = unit % Tile::kDownDepth;
        const std::uint32_t w = (stages + slice(pair.stage, Tile::kUpSlices + i) * Tile::kStageBytes) >> 4;
        const std::uint64_t b =
            ptx::wgmma_descriptor(w + ((k / kBlock * Tile::kOutRows * 128 + k % kBlock * 2) >> 4));
        ptx::Wgmma<T, Tile::kOutRows>::run(o[piece], h + unit / 4, b, unit == 0 ? chunk : 1);
      }
    }
    ptx::wgmma_commit();
  };
  const auto finish_tile = [&] {
    const std::uint32_t staging = shared + Tile::kOffsetStaging + warp * (Tile::kStaged * kPieceBytes);
    const int row = tile * kTileRows + warp % 4 * 16;
    store_outputs<T, Tile::kStaged, kEights>(o, p.f.end_scale, down_bias, staging, p, row);
    tile += kConsumers * grid;
  };
  // All of a chunk, and of the tile where it is the last one. Nothing is under way where the loop turns, or ptxas
  // serialises the products.
  const auto take_chunk = [&](bool more) {
    const std::uint32_t done = pair.stage;
    const bool last = chunk + 1 == p.chunks;
    multiply_up();
    wait_for_down();
    ptx::wgmma_wait<0>();
    pin(s);
    release_up(done);
    if (last && lane == 0) ptx::mbarrier_arrive(empty_x + 8 * warpgroup);
    constexpr int kUnits = kChunk / Tile::kParts;
#pragma unroll
    for (int i = 0; i < Tile::kParts; ++i) {
      float* const values = s + i * kUnits / 2;
      std::uint32_t* const packed = h + i * kUnits / 4;
      activate_values<T, Tile::kGated, kUnits / 2, kForm...>(p.f, values, kChunk / 2);
      pack_pairs<T, kUnits / 4>(values, packed);
      if (const int units = p.hidden - chunk * kChunk - i * kUnits; units < kUnits)
        mask_pairs<kUnits / 4>(packed, units);
      pin<kUnits / 4>(packed);
      ptx::wgmma_fence();
      multiply_down(i * kUnits, (i + 1) * kUnits);
    }
    next_pair(last);
    if (more) wait_for_up();
    ptx::wgmma_wait<0>();
    pin(o);
    release_down(done);
    if (last) finish_tile();
    chunk = last ? 0 : chunk + 1;
  };

  if (steps > 0) {
    ptx::mbarrier_wait(full_down_bias, 0);
    wait_for_up();
    for (int step = 1; step <= steps; ++step) take_chunk(step < steps);
    ptx::tma_store_wait();
  }
  // Another one may have a tile more: let its weights pass.
  if (!p.resident) {
    for (int i = steps; i < pairs; ++i) {
      wait_for_up();
      release_up(pair.stage);
      wait_for_down();
      release_down(pair.stage);
      next_pair(false);
    }
  }
}

template <class T, class Tile>
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
  p.chunks = (first.n + Tile::kChunk - 1) / Tile::kChunk;
  p.tiles = static_cast<int>((first.m + kTileRows - 1) / kTileRows);
  p.resident = p.chunks * Tile::kSlices <= Tile::kStages;
  Launch how;
  how.grid = static_cast<unsigned>(std::min(p.tiles, call.sms));
  how.block = Tile::kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = true;
  const auto run = [&]<bool kEights, Form... kForm>() {
    return launch<hopper<T, Tile, kEights, kForm...>>(kHopperName, how, Tile::kShared, p);
  };
  // Both ways of storing in one kernel take 6 to 10 % longer, a branch between activations 4 to 12 %.
  if (p.out % 8 != 0) return run.template operator()<false>();
  switch (call.activation.form) {
    case Form::normal: return run.template operator()<true, Form::normal>();
    case Form::tanh_normal: return run.template operator()<true, Form::tanh_normal>();
    case Form::logistic: return run.template operator()<true, Form::logistic>();
    default: break;
  }
  if constexpr (Tile::kGated) {
    return run.template operator()<true>();
  } else {
    switch (call.activation.form) {
      case Form::identity: return run.template operator()<true, Form::identity>();
      case Form::relu: return run.template operator()<true, Form::relu>();
      case Form::relu2: return run.template operator()<true, Form::relu2>();
      case Form::sigmoid: return run.template operator()<true, Form::sigmoid>();
      default: return Status(StatusCode::internal, "", "no such plain activation");
    }
  }
}

template <class T, bool kGated>
Status launch_any_hopper(const NarrowCall& call, cudaStream_t stream) {
  switch (padded_width(call.gemms.hidden.k, call.gemms.out.n)) {
    case 64: return launch_hopper<T, Tile<64, kGated>>(call, stream);
    case 128: return launch_hopper<T, Tile<128, kGated>>(call, stream);
    case 192: return launch_hopper<T, Tile<192, kGated>>(call, stream);
    default: return launch_hopper<T, Tile<256, kGated>>(call, stream);
  }
}

}  // namespace fusedmlp::cuda::narrow
