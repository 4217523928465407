// A whole MLP of few tokens in one launch.
//
// Products by mma.sync with tokens as the 16 rows of the first operand and 8 weight rows as the columns of the
// second. Where the instruction wants k in pairs (2t, 2t + 1) and (2t + 8, 2t + 9) of 16, both operands give the 16
// bytes that lane t of 4 holds: k is permuted alike in both, and a lane reads whole 16-byte pieces of its row.
//
// Sums are taken in an order that depends on the plan alone.
#pragma once

#include <algorithm>

#include "cuda/common/activations.cuh"
#include "cuda/common/barrier_slot.h"
#include "cuda/common/launch.h"
#include "cuda/common/numeric.cuh"
#include "cuda/decode/ring.cuh"
#include "cuda/ptx/grid_barrier.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/ptx/prefetch.cuh"

namespace fusedmlp::cuda::decode {

__device__ __forceinline__ uint4 load_shared(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// `units` of k of every token into shared memory, from element `k` on.
template <class T>
__device__ __forceinline__ void load_activations(const PhaseArgs& phase, int k, int units, std::uint32_t to,
                                                 int pitch) {
  const int threads = 1 << phase.chunk_shift;  // of a row
  const int thread = static_cast<int>(threadIdx.x);
  const int chunks = units * (kUnit / 8);  // of 16 bytes in a row
  const int left = phase.gemm.k - k;
  const int rows = static_cast<int>(phase.gemm.m);
  const int row_step = static_cast<int>(blockDim.x) >> phase.chunk_shift;
  int row = thread >> phase.chunk_shift;
  if (row >= row_step) return;
  for (; row < rows; row += row_step) {
    const T* from = static_cast<const T*>(phase.gemm.a) + row * phase.gemm.lda + k;
    for (int chunk = thread & (threads - 1); chunk < chunks; chunk += threads) {
      ptx::cp_async_part(to + row * pitch + chunk * 16, from + chunk * 8, max(0, min(16, (left - chunk * 8) * 2)));
    }
  }
}

// Where a sum lies among those of a pass in shared memory: [warp of k][tile][16 tokens].
template <int kClass>
struct Sums {
  static constexpr int kBlocks = kClass == 8 ? 1 : kClass / 16;  // of 16 tokens
  static constexpr int kValues = kClass == 8 ? 2 : 4;            // a lane and tile
  static constexpr int kFloats = sum_floats(kClass);

  static __device__ __forceinline__ int at(int tile, int token, int row) {
    const int value = row % 2 + (kClass == 8 ? 0 : token % 16 / 8 * 2);
    return (tile * kBlocks + token / 16) * kFloats + (token % 8 * 4 + row / 2) * kValues + value;
  }
};

// Adds a unit of k of kTiles tiles: this lane's part of the first at `weights`, of the next ones kTileStep bytes on;
// the activations at `activations` + rows[.].
template <class T, int kClass, int kTiles, int kTileStep, int kSets, int kBlocks>
__device__ __forceinline__ void multiply_unit(std::uint32_t weights, std::uint32_t activations,
                                              const std::uint32_t (&rows)[kClass / 8],
                                              float (&sums)[kSets][kStepUnits][kBlocks][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint4 b[kTiles], low[2], high[2];
    const auto load_rows = [&](int m) {
      low[m % 2] = load_shared(activations + rows[2 * m] + half * kUnit);
      high[m % 2] =
          kClass == 8 ? uint4{} : load_shared(activations + rows[(2 * m + 1) % (kClass / 8)] + half * kUnit);
    };
    load_rows(0);
#pragma unroll
    for (int j = 0; j < kTiles; ++j) b[j] = load_shared(weights + j * kTileStep + half * (kUnitBytes / 2));
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
      if (m + 1 < kBlocks) load_rows(m + 1);
      const uint4 l = low[m % 2], h = high[m % 2];
#pragma unroll
      for (int j = 0; j < kTiles; ++j) ptx::mma_m16n8k16<T>(sums[0][j][m], {l.x, h.x, l.y, h.y}, b[j].x, b[j].y);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        ptx::mma_m16n8k16<T>(sums[kSets - 1][j][m], {l.z, h.z, l.w, h.w}, b[j].z, b[j].w);
      }
    }
  }
}

// Adds a step: kUnits units of each of kTiles tiles, `unit_step` bytes of activations apart; those from `units` on
// are none of the product's.
template <class T, int kClass, int kTiles, int kUnits, int kSets, int kBlocks>
__device__ __forceinline__ void multiply_step(std::uint32_t weights, std::uint32_t activations, int unit_step,
                                              int units, const std::uint32_t (&rows)[kClass / 8],
                                              float (&sums)[kSets][kStepUnits][kBlocks][4]) {
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (u > 0 && u >= units) break;
    multiply_unit<T, kClass, kTiles, kUnits * kUnitBytes>(weights + u * kUnitBytes, activations + u * unit_step, rows,
                                                          sums);
  }
}

// One pass over k of the block's rows: their sums to shared memory, where the activations were. meanwhile() is called
// while the first operands are under way.
template <class T, int kClass, class Meanwhile>
__device__ __forceinline__ void multiply(const PhaseArgs& phase, const BlockPart& part, int tokens, Ring<T>& ring,
                                         unsigned char* activations, const Meanwhile& meanwhile) {
  constexpr int kBlocks = Sums<kClass>::kBlocks;
  constexpr int kHalves = kClass / 8;
  constexpr int kSets = kClass <= 16 ? 2 : 1;  // of sums, so that products need not wait for each other
  constexpr int kUnitStep = kUnit * 2;         // bytes
  const WarpPart warp(phase);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int pitch = activation_pitch(phase.chunk_units);
  const std::uint32_t shared = ptx::shared_address(activations);
  std::uint32_t rows[kHalves];  // beyond the last token the last one again: those sums are not used
#pragma unroll
  for (int i = 0; i < kHalves; ++i) rows[i] = min(8 * i + lane / 4, tokens - 1) * pitch + lane % 4 * 16;

  float sums[kSets][kStepUnits][kBlocks][4] = {};
  int loaded = 0;  // steps queued before the newest chunk of activations
  int unit = warp.tiles > 0 ? warp.unit : part.units;
  // Before chunk 0 nothing is multiplied; while a chunk is, the next one is under way.
#pragma unroll 1
  for (int chunk = -1; chunk * phase.chunk_units < part.units; ++chunk) {
    const int first = (chunk + 1) * phase.chunk_units;  // of the next chunk
    if (chunk >= 0) {
      ring.wait_for_older(loaded);
      __syncthreads();
    }
    if (first < part.units) {
      load_activations<T>(phase, part.k + first * kUnit, min(phase.chunk_units, part.units - first),
                          shared + ((chunk + 1) & (phase.buffers - 1)) * tokens * pitch, pitch);
      ptx::cp_async_commit();
      loaded = ring.queued();
    }
    if (chunk < 0) {
      meanwhile();
      continue;
    }
    const int end = min(part.units, first);
    const std::uint32_t buffer =
        shared + (chunk & (phase.buffers - 1)) * tokens * pitch - chunk * phase.chunk_units * kUnitStep;
#pragma unroll 1
    for (; unit < end; unit += phase.warps_k << phase.step_shift) {
      ring.wait();
      const std::uint32_t at = buffer + unit * kUnitStep;
      const int apart = phase.warps_k * kUnitStep;
      // How many units of k the step really has: all but in the end, warps_k apart.
      const int units =
          phase.step_shift == 0 ? 1 : (min(end - unit - 1, 3 * phase.warps_k) * phase.warps_k_inverse >> 16) + 1;
      if (warp.tiles == 4) {
        multiply_step<T, kClass, 4, 1>(ring.oldest(), at, apart, units, rows, sums);
      } else if (warp.tiles == 3) {
        multiply_step<T, kClass, 3, 1>(ring.oldest(), at, apart, units, rows, sums);
      } else if (phase.step_shift == 2) {
        multiply_step<T, kClass, 1, 4>(ring.oldest(), at, apart, units, rows, sums);
      } else if (warp.tiles == 2) {
        if (phase.step_shift == 1) {
          multiply_step<T, kClass, 2, 2>(ring.oldest(), at, apart, units, rows, sums);
        } else {
          multiply_step<T, kClass, 2, 1>(ring.oldest(), at, apart, units, rows, sums);
        }
      } else if (phase.step_shift == 1) {
        multiply_step<T, kClass, 1, 2>(ring.oldest(), at, apart, units, rows, sums);
      } else {
        multiply_step<T, kClass, 1, 1>(ring.oldest(), at, apart, units, rows, sums);
      }
      ring.replace_oldest();
    }
  }

  __syncthreads();  // the activations have been read
  float* const all = reinterpret_cast<float*>(activations);
#pragma unroll
  for (int j = 0; j < kStepUnits; ++j) {
    if (j >= warp.tiles) break;
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) v[e] = kSets == 1 ? sums[0][j][m][e] : sums[0][j][m][e] + sums[1][j][m][e];
      float* to = all + ((warp.unit * phase.pass_tiles + warp.tile + j) * kBlocks + m) * Sums<kClass>::kFloats;
      if constexpr (kClass == 8) {
        reinterpret_cast<float2*>(to)[lane] = {v[0], v[1]};
      } else {
        reinterpret_cast<float4*>(to)[lane] = {v[0], v[1], v[2], v[3]};
      }
    }
  }
  __syncthreads();
}

// What the warps along k have summed for a weight row of tile `tile`.
template <int kClass>
__device__ __forceinline__ float sum_of_warps(const PhaseArgs& phase, const unsigned char* activations, int tile,
                                              int token, int row) {
  const float* from = reinterpret_cast<const float*>(activations) + Sums<kClass>::at(tile, token, row);
  const int stride = phase.pass_tiles * Sums<kClass>::kBlocks * Sums<kClass>::kFloats;
  float sum = from[0];
#pragma unroll 4
  for (int w = 1; w < phase.warps_k; ++w) sum += from[w * stride];
  return sum;
}

// Nothing of this MLP may be read before the kernels ahead are complete: they may have written x, and the weights
// too. Drawing weights into L2 is sound all the same: every write ends there, and no value is kept.
template <class T>
__device__ __forceinline__ void prefetch(const KernelArgs& args) {
#pragma unroll 1
  for (int p = 0; p < 2; ++p) {
    const PhaseArgs& phase = args.phase[p];
    if (phase.prefetch_bytes == 0) return;
    const BlockPart part(phase);
    const int left = (phase.gemm.k - part.k) * 2 / 16 * 16;
    const int bytes = min(phase.prefetch_bytes, min(left, part.units * kUnit * 2));
    if (bytes <= 0) continue;
    const int rows = phase.gated ? 2 * part.rows : part.rows;
    for (int i = static_cast<int>(threadIdx.x); i < rows; i += static_cast<int>(blockDim.x)) {
      const bool gate = i >= part.rows;
      const Weight& w = gate ? phase.gemm.gate : phase.gemm.w;
      const std::int64_t row = part.row + (gate ? i - part.rows : i);
      ptx::prefetch_l2(static_cast<const T*>(w.data) + row * w.row_stride + part.k,
                       static_cast<std::uint32_t>(bytes));
    }
  }
}

// body(token, row) for tokens x rows.
template <class Body>
__device__ __forceinline__ void for_items(int shift, int tokens, int rows, const Body& body) {
  const int thread = static_cast<int>(threadIdx.x);
  const int token_step = static_cast<int>(blockDim.x) >> shift;
  if (thread >> shift >= token_step) return;
#pragma unroll 1
  for (int token = thread >> shift; token < tokens; token += token_step) {
#pragma unroll 1
    for (int row = thread & ((1 << shift) - 1); row < rows; row += 1 << shift) body(token, row);
  }
}

// Biases in shared memory: up, down, gate.
template <class T>
__device__ __forceinline__ void load_biases(const KernelArgs& args, float* to) {
  if (!args.has_bias) return;
#pragma unroll 1
  for (int p = 0; p < (args.phase[0].gated ? 3 : 2); ++p) {
    const PhaseArgs& phase = args.phase[p & 1];
    const Bias& bias = p == 2 ? phase.gemm.gate_bias : phase.gemm.bias;
    const BlockPart part(phase);
    for (int r = static_cast<int>(threadIdx.x); r < part.rows; r += static_cast<int>(blockDim.x)) {
      to[r] = bias_at<T>(bias, part.row + r);
    }
    to += phase.rows;
  }
}

template <class T, int kClass>
__global__ void __launch_bounds__(32 * most_warps(kClass), 1) mlp_kernel(const __grid_constant__ KernelArgs args) {
  extern __shared__ __align__(128) unsigned char shared[];
  unsigned char* const activations = shared + args.ring_bytes;
  float* const bias_up = reinterpret_cast<float*>(shared + args.bias_offset);
  float* const bias_down = bias_up + args.phase[0].rows;
  float* const bias_gate = bias_down + args.phase[1].rows;
  const int tokens = args.tokens;
  const int thread = static_cast<int>(threadIdx.x);

  ptx::grid_dependency_launch();
  prefetch<T>(args);
  Ring<T> ring(args, ptx::shared_address(shared));
  ptx::grid_dependency_wait();

  std::uint32_t* const group =
      args.barrier + (1 + (static_cast<int>(blockIdx.x) >> args.phase[1].split_shift)) * kBarrierStride;
  std::uint32_t grid_before = 0, group_before = 0;
  const auto begin = [&] {
#pragma unroll 1
    for (int i = 0; i < args.depth; ++i) ring.queue();
    if (thread == 0) {
      grid_before = ptx::barrier_state(args.barrier);
      group_before = ptx::barrier_state(group);
    }
    load_biases<T>(args, bias_up);
  };

#pragma unroll 1
  for (int p = 0; p < 2; ++p) {
    const PhaseArgs& phase = args.phase[p];
    const BlockPart part(phase);
    const int splits = 1 << phase.split_shift;
    const int half = phase.pass_rows / kTileRows;
    const Gemm& gemm = phase.gemm;
    T* const out = static_cast<T*>(gemm.out) + part.row;
    float* const partials = args.partial + static_cast<std::int64_t>(part.row) * splits * tokens;  // of all splits
    const int items = tokens * part.rows;
    if (p == 0 && part.rows == 0) begin();
#pragma unroll 1
    for (int first = 0; first < part.rows; first += phase.pass_rows) {
      if (first > 0) __syncthreads();  // the sums of the pass before have been read
      multiply<T, kClass>(phase, part, tokens, ring, activations, [&] {
        if (p == 0 && first == 0) begin();
      });
      for_items(phase.item_shift, tokens, min(phase.pass_rows, part.rows - first), [&](int token, int row) {
        float v = sum_of_warps<kClass>(phase, activations, row / kTileRows, token, row % kTileRows);
        if (splits > 1) {
          partials[part.split * items + token * part.rows + first + row] = v;
          return;
        }
        if (p == 1) {
          if (args.has_bias) v += bias_down[first + row];
        } else if (phase.gated) {
          float up = sum_of_warps<kClass>(phase, activations, half + row / kTileRows, token, row % kTileRows);
          if (args.has_bias) {
            v += bias_gate[first + row];
            up += bias_up[first + row];
          }
          with_form(args.activation.form,
                    [&](auto form) { v = gated<decltype(form)::value>(args.activation, v, up); });
        } else {
          if (args.has_bias) v += bias_up[first + row];
          with_form(args.activation.form,
                    [&](auto form) { v = activate<decltype(form)::value>(args.activation, v); });
        }
        out[token * gemm.ldo + first + row] = from_float<T>(v);
      });
    }
    if (p == 1) {
      if (splits == 1) return;
      __syncthreads();
      if (thread == 0) {
        ptx::barrier_arrive(group, splits, part.split == 0);
        ptx::barrier_wait(group, group_before);
      }
      __syncthreads();
      // Each of the blocks that share these columns adds the sums of some of the tokens, in the order of the splits.
      const int first_token = part.split * tokens >> phase.split_shift;
      const int some = ((part.split + 1) * tokens >> phase.split_shift) - first_token;
      for_items(phase.item_shift, some, part.rows, [&](int token, int row) {
        const float* from = partials + (first_token + token) * part.rows + row;
        float v = 0;
#pragma unroll 4
        for (int s = 0; s < splits; ++s) v += __ldcg(from + s * items);
        if (args.has_bias) v += bias_down[row];
        out[(first_token + token) * gemm.ldo + row] = from_float<T>(v);
      });
      return;
    }
    __syncthreads();
    if (thread == 0) ptx::barrier_arrive(args.barrier, static_cast<int>(gridDim.x), blockIdx.x == 0);
    if (BlockPart(args.phase[1]).rows == 0) return;
    if (thread == 0) ptx::barrier_wait(args.barrier, grid_before);
    __syncthreads();
  }
}

inline int log2_up(int value) {
  int log = 0;
  while (1 << log < value) ++log;
  return log;
}

inline PhaseArgs phase_args(const Gemm& gemm, bool gated, const PhasePlan& plan, int threads) {
  PhaseArgs args{};
  args.gemm = gemm;
  args.gated = gated;
  args.units = divide_up(gemm.k, kUnit);
  args.rows = plan.rows;
  args.pass_rows = plan.pass_rows;
  args.pass_tiles = plan.pass_rows / kTileRows * (gated ? 2 : 1);
  args.tiles = plan.tiles;
  args.warps_k = plan.warps_k;
  args.warps_k_inverse = divide_up(1 << 16, plan.warps_k);
  args.chunk_units = plan.chunk_units;
  args.buffers = plan.buffers;
  args.step_shift = log2_up(plan.step_units);
  args.split_shift = log2_up(plan.splits);
  args.chunk_shift = std::min(log2_up(plan.chunk_units * kUnit / 8), log2_up(threads + 1) - 1);
  args.item_shift = std::min(log2_up(plan.pass_rows), log2_up(threads + 1) - 1);
  return args;
}

template <class T, int kClass>
Status launch_class(const Call& call, cudaStream_t stream) {
  const Plan& plan = call.plan;
  KernelArgs args{};
  PhaseArgs& up = args.phase[0];
  PhaseArgs& down = args.phase[1];
  up = phase_args(call.products.hidden, call.gated, plan.up, 32 * plan.warps);
  down = phase_args(call.products.out, false, plan.down, 32 * plan.warps);
  if (plan.prefetch_bytes > 0 && call.overlaps_predecessor) {
    const int up_rows = plan.up.rows * (call.gated ? 2 : 1);
    const int up_bytes = up.units * kUnit * 2 * up_rows;
    up.prefetch_bytes = plan.prefetch_bytes / up_rows / 128 * 128;
    if (up_bytes < plan.prefetch_bytes) {
      down.prefetch_bytes = (plan.prefetch_bytes - up_bytes) / plan.down.rows / 128 * 128;
    }
  }
  args.has_bias = up.gemm.bias.data != nullptr || up.gemm.gate_bias.data != nullptr || down.gemm.bias.data != nullptr;
  args.activation = call.activation;
  args.tokens = static_cast<int>(call.products.hidden.m);
  args.depth = plan.depth;
  args.ring_bytes = plan.depth * plan.warps * kStepBytes;
  args.bias_offset = args.ring_bytes + plan.activation_bytes;
  args.partial = call.partial;
  args.barrier = call.barrier;

  Launch how;
  how.grid = static_cast<unsigned>(plan.blocks);
  how.block = static_cast<unsigned>(32 * plan.warps);
  how.shared_bytes = static_cast<std::size_t>(plan.shared_bytes);
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  how.cooperative = call.cooperative;
  return launch<mlp_kernel<T, kClass>>(kName, how, call.most_shared, args);
}

template <class T>
Status launch_mlp(const Call& call, cudaStream_t stream) {
  switch (call.plan.token_class) {
    case 8: return launch_class<T, 8>(call, stream);
    case 16: return launch_class<T, 16>(call, stream);
    case 32: return launch_class<T, 32>(call, stream);
    case 64: return launch_class<T, 64>(call, stream);
    default: return Status(StatusCode::internal, "", "unknown class of tokens");
  }
}

}  // namespace fusedmlp::cuda::decode
