// A whole MLP of few tokens in one launch.
//
// Products by mma.sync with tokens as the 16 rows of the first operand and 8 weight rows as the columns of the second.
// Where the instruction wants k in pairs (2t, 2t + 1) and (2t + 8, 2t + 9) of 16, both operands give the 16 bytes that
// lane t of 4 holds: k is permuted alike in both, and a lane reads whole 16-byte pieces of its row.
//
// Sums are taken in an order that depends on the plan alone.
#pragma once

#include <type_traits>

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
__device__ __forceinline__ void load_activations(const Gemm& gemm, int k, int units, std::uint32_t to, int pitch) {
  const int chunks = units * (kUnit / 8);  // of 16 bytes in a row
  const int threads = static_cast<int>(blockDim.x);
  int row = static_cast<int>(threadIdx.x) / chunks;
  int chunk = static_cast<int>(threadIdx.x) % chunks;
  const int row_step = threads / chunks;
  const int chunk_step = threads % chunks;
  const int left = gemm.k - k;
  while (row < gemm.m) {
    const T* from = static_cast<const T*>(gemm.a) + row * gemm.lda + k + chunk * 8;
    ptx::cp_async_part(to + row * pitch + chunk * 16, from, max(0, min(16, (left - chunk * 8) * 2)));
    row += row_step;
    chunk += chunk_step;
    if (chunk >= chunks) {
      chunk -= chunks;
      ++row;
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

// Sums of one step: a unit of k of kTiles tiles of the warp. `slots`: this lane's part of the tiles, `rows`: of the
// activations, which begin at `at`.
template <class T, int kClass, int kTiles, int kSets, int kBlocks>
__device__ __forceinline__ void multiply_step(const std::uint32_t (&slots)[kTiles], std::uint32_t at,
                                              const std::uint32_t (&rows)[kClass / 8],
                                              float (&sums)[kSets][kMostTiles][kBlocks][4]) {
  constexpr int kHalves = kClass / 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint4 a[kHalves], b[kTiles];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) b[j] = load_shared(slots[j] + half * (kUnitBytes / 2));
#pragma unroll
    for (int i = 0; i < kHalves; ++i) a[i] = load_shared(at + rows[i] + half * kUnit);
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        const std::uint32_t high_x = kClass == 8 ? 0 : a[(2 * m + 1) % kHalves].x;
        const std::uint32_t high_y = kClass == 8 ? 0 : a[(2 * m + 1) % kHalves].y;
        ptx::mma_m16n8k16<T>(sums[0][j][m], {a[2 * m].x, high_x, a[2 * m].y, high_y}, b[j].x, b[j].y);
      }
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        const std::uint32_t high_z = kClass == 8 ? 0 : a[(2 * m + 1) % kHalves].z;
        const std::uint32_t high_w = kClass == 8 ? 0 : a[(2 * m + 1) % kHalves].w;
        ptx::mma_m16n8k16<T>(sums[kSets - 1][j][m], {a[2 * m].z, high_z, a[2 * m].w, high_w}, b[j].z, b[j].w);
      }
    }
  }
}

// One pass over k of the block's rows from `row` on: their sums to shared memory, where the activations were.
// meanwhile() is called while the first operands are under way.
template <class T, int kClass, class Meanwhile>
__device__ __forceinline__ void multiply(const PhaseArgs& phase, const BlockPart& part, int tokens,
                                         Ring<T, kMostTiles>& ring, unsigned char* activations,
                                         const Meanwhile& meanwhile) {
  constexpr int kBlocks = Sums<kClass>::kBlocks;
  constexpr int kHalves = kClass / 8;
  constexpr int kSets = kClass <= 16 ? 2 : 1;  // of sums, so that products need not wait for each other
  const WarpPart warp(phase);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int pitch = activation_pitch(phase.chunk_units);
  const std::uint32_t shared = ptx::shared_address(activations);
  std::uint32_t rows[kHalves];  // beyond the last token the last one again: those sums are not used
#pragma unroll
  for (int i = 0; i < kHalves; ++i) rows[i] = min(8 * i + lane / 4, tokens - 1) * pitch + lane % 4 * 16;

  float sums[kSets][kMostTiles][kBlocks][4] = {};
  int loaded = 0;  // steps queued before the newest chunk of activations
  int unit = warp.unit;
  // Before chunk 0 nothing is multiplied; while a chunk is, the next one is under way.
#pragma unroll 1
  for (int chunk = -1; chunk * phase.chunk_units < part.units; ++chunk) {
    const int first = (chunk + 1) * phase.chunk_units;  // of the next chunk
    if (chunk >= 0) {
      ring.wait_for_older(loaded);
      __syncthreads();
    }
    if (first < part.units) {
      load_activations<T>(phase.gemm, part.k + first * kUnit, min(phase.chunk_units, part.units - first),
                          shared + (chunk + 1) % phase.buffers * tokens * pitch, pitch);
      ptx::cp_async_commit();
      loaded = ring.issued();
    }
    const int end = warp.tiles > 0 ? min(part.units, first) : 0;
    const std::uint32_t buffer = shared + chunk % phase.buffers * tokens * pitch - chunk * phase.chunk_units * kUnit * 2;
#pragma unroll 1
    for (;;) {
      ring.fill();
      if (chunk < 0 || unit >= end) break;
      ring.wait();
      const std::uint32_t at = buffer + unit * (kUnit * 2);
      const auto step = [&](auto count) {
        std::uint32_t slots[decltype(count)::value];
        ring.tiles(slots);
        multiply_step<T, kClass>(slots, at, rows, sums);
      };
      switch (warp.tiles) {
        case 1: step(std::integral_constant<int, 1>()); break;
        case 2: step(std::integral_constant<int, 2>()); break;
        case 3: step(std::integral_constant<int, 3>()); break;
        default: step(std::integral_constant<int, 4>()); break;
      }
      ring.release(warp.tiles);
      unit += phase.warps_k;
    }
    if (chunk < 0) meanwhile();
  }

  __syncthreads();  // the activations have been read
  float* const all = reinterpret_cast<float*>(activations);
  const int warp_k = warp.unit;
#pragma unroll
  for (int j = 0; j < kMostTiles; ++j) {
    if (j >= warp.tiles) break;
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) v[e] = kSets == 1 ? sums[0][j][m][e] : sums[0][j][m][e] + sums[1][j][m][e];
      float* to = all + ((warp_k * phase.pass_tiles + warp.tile + j) * kBlocks + m) * Sums<kClass>::kFloats;
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

// Nothing of this MLP may be read before the kernels ahead are complete: they may have written x, and the weights too.
// Drawing weights into L2 is sound all the same: every write ends there, and no value is kept.
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
      ptx::prefetch_l2(static_cast<const T*>(w.data) + row * w.row_stride + part.k, static_cast<std::uint32_t>(bytes));
    }
  }
}

template <class T, int kClass>
__global__ void __launch_bounds__(32 * most_warps(kClass), 1) mlp_kernel(const __grid_constant__ KernelArgs args) {
  extern __shared__ __align__(128) unsigned char shared[];
  unsigned char* const activations = shared + args.ring_bytes;
  float* const biases = reinterpret_cast<float*>(shared + args.bias_offset);  // up, down, gate
  const int tokens = args.tokens;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);

  ptx::grid_dependency_launch();
  prefetch<T>(args);
  ptx::grid_dependency_wait();

  Ring<T, kMostTiles> ring(args, ptx::shared_address(shared));
  const auto load_biases = [&] {
    if (!args.has_bias) return;
#pragma unroll 1
    for (int p = 0; p < 3; ++p) {
      const PhaseArgs& phase = args.phase[p % 2];
      const Bias& bias = p == 2 ? phase.gemm.gate_bias : phase.gemm.bias;
      const BlockPart part(phase);
      float* to = biases + (p > 0 ? args.phase[0].rows : 0) + (p > 1 ? args.phase[1].rows : 0);
      for (int r = thread; r < part.rows; r += threads) to[r] = bias_at<T>(bias, part.row + r);
    }
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
    if (part.rows == 0) ring.fill();  // of the other product
#pragma unroll 1
    for (int first = 0; first < part.rows; first += phase.pass_rows) {
      if (first > 0) __syncthreads();  // the sums of the pass before have been read
      multiply<T, kClass>(phase, part, tokens, ring, activations, [&] {
        if (p == 0 && first == 0) load_biases();
      });
      const int rows = min(phase.pass_rows, part.rows - first);
#pragma unroll 1
      for (int i = thread; i < tokens * rows; i += threads) {
        const int token = i / rows;
        const int row = i - token * rows;
        const float bias = args.has_bias ? biases[(p == 0 ? 0 : args.phase[0].rows) + first + row] : 0.0f;
        float v = sum_of_warps<kClass>(phase, activations, row / kTileRows, token, row % kTileRows);
        if (splits > 1) {
          partials[part.split * items + token * part.rows + first + row] = v;
          continue;
        }
        if (p == 0 && phase.gated) {
          const float up = bias + sum_of_warps<kClass>(phase, activations, half + row / kTileRows, token, row % kTileRows);
          if (args.has_bias) v += biases[args.phase[0].rows + args.phase[1].rows + first + row];
          with_form(args.activation.form,
                    [&](auto form) { v = gated<decltype(form)::value>(args.activation, v, up); });
        } else {
          v += bias;
          if (p == 0) {
            with_form(args.activation.form,
                      [&](auto form) { v = activate<decltype(form)::value>(args.activation, v); });
          }
        }
        out[token * gemm.ldo + first + row] = from_float<T>(v);
      }
    }
    if (p == 1 && splits == 1) return;

    // p == 0: all of the hidden is written. p == 1: all sums of the blocks that share these columns are.
    __syncthreads();
    std::uint32_t before = 0;
    std::uint32_t* counter =
        args.barrier + (p == 0 ? 0 : (1 + (static_cast<int>(blockIdx.x) >> phase.split_shift)) * kBarrierStride);
    if (thread == 0) {
      before = ptx::barrier_arrive(counter, p == 0 ? static_cast<int>(gridDim.x) : splits,
                                   p == 0 ? blockIdx.x == 0 : part.split == 0);
    }
    if (BlockPart(args.phase[1]).rows == 0) return;
    if (thread == 0) ptx::barrier_wait(counter, before);
    __syncthreads();
    if (p == 0) continue;

    // Each of those blocks adds the sums of a part of the columns, in the order of the splits.
    const int end = (part.split + 1) * items >> phase.split_shift;
    for (int i = (part.split * items >> phase.split_shift) + thread; i < end; i += threads) {
      const int token = i / part.rows;
      const int row = i - token * part.rows;
      float v = 0;
#pragma unroll 4
      for (int s = 0; s < splits; ++s) v += __ldcg(partials + s * items + i);
      if (args.has_bias) v += biases[args.phase[0].rows + row];
      out[token * gemm.ldo + row] = from_float<T>(v);
    }
  }
}

inline PhaseArgs phase_args(const Gemm& gemm, bool gated, const PhasePlan& plan) {
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
  while (1 << args.split_shift < plan.splits) ++args.split_shift;
  return args;
}

template <class T, int kClass>
Status launch_class(const Call& call, cudaStream_t stream) {
  const Plan& plan = call.plan;
  KernelArgs args{};
  PhaseArgs& up = args.phase[0];
  PhaseArgs& down = args.phase[1];
  up = phase_args(call.products.hidden, call.gated, plan.up);
  down = phase_args(call.products.out, false, plan.down);
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
  args.ring_units = plan.ring_units;
  args.ring_bytes = plan.ring_units * plan.warps * kUnitBytes;
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
