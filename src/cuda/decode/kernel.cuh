// A whole MLP of few tokens in one launch.
//
// Products by mma.sync with tokens as the 16 rows of the first operand and 8 weight rows as the columns of the second.
// Where the instruction wants k in pairs (2t, 2t + 1) and (2t + 8, 2t + 9) of 16, both operands give the 16 bytes that
// lane t of 4 holds: k is permuted alike in both, and a lane reads whole 16-byte pieces of its row.
//
// Sums are taken in an order that depends on the plan alone.
#pragma once

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

// One product of the block: for each pass, finish(first row of the pass, sum(tile, token, row of the tile)).
// meanwhile() is called while the first operands are under way.
template <class T, int kClass, class Meanwhile, class Finish>
__device__ __forceinline__ void multiply(const PhaseArgs& phase, const BlockPart& part, int tokens, Ring<T>& ring,
                                         unsigned char* activations, const Meanwhile& meanwhile,
                                         const Finish& finish) {
  constexpr int kBlocks = Sums<kClass>::kBlocks;
  constexpr int kHalves = kClass / 8;
  constexpr int kSets = kClass <= 16 ? 2 : 1;  // of sums, so that products need not wait for each other
  const PhasePlan& plan = phase.plan;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_k = warp % plan.warps_k;
  const int all_tiles = tiles_of_pass(phase);
  const int first_tile = warp / plan.warps_k * plan.tiles;
  const int tiles = min(plan.tiles, all_tiles - first_tile);
  const int pitch = activation_pitch(plan.chunk_units);
  const int chunks = divide_up(part.units, plan.chunk_units);
  const std::uint32_t shared = ptx::shared_address(activations);
  float* const sums_of_warps = reinterpret_cast<float*>(activations);
  std::uint32_t row_at[kHalves];  // beyond the last token the last one again: those sums are not used
#pragma unroll
  for (int i = 0; i < kHalves; ++i) row_at[i] = min(8 * i + lane / 4, tokens - 1) * pitch + lane % 4 * 16;

  for (int pass_row = 0; pass_row < part.rows; pass_row += plan.pass_rows) {
    const auto load_chunk = [&](int chunk) {
      const int first = chunk * plan.chunk_units;
      load_activations<T>(phase.gemm, part.k + first * kUnit, min(plan.chunk_units, part.units - first),
                          shared + chunk % plan.buffers * tokens * pitch, pitch);
      ptx::cp_async_commit();
      return ring.issued();
    };
    float sums[kSets][kMostTiles][kBlocks][4] = {};
    int loaded = load_chunk(0);
    ring.fill();
    if (pass_row == 0) meanwhile();
    for (int chunk = 0; chunk < chunks; ++chunk) {
      ring.wait_for_older(loaded);
      __syncthreads();
      if (chunk + 1 < chunks) loaded = load_chunk(chunk + 1);
      const int end = min(part.units, (chunk + 1) * plan.chunk_units);
      std::uint32_t at = shared + chunk % plan.buffers * tokens * pitch + warp_k * (kUnit * 2);
      if (tiles <= 0) continue;
      for (int unit = chunk * plan.chunk_units + warp_k; unit < end; unit += plan.warps_k) {
        ring.wait();
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint4 a[kHalves];
#pragma unroll
          for (int i = 0; i < kHalves; ++i) a[i] = load_shared(at + row_at[i] + half * kUnit);
#pragma unroll
          for (int j = 0; j < kMostTiles; ++j) {
            if (j >= tiles) break;
            const uint4 b = load_shared(ring.tile(j) + half * (kUnitBytes / 2));
#pragma unroll
            for (int m = 0; m < kBlocks; ++m) {
              const uint4 low = a[2 * m];
              const uint4 high = kClass == 8 ? uint4{0, 0, 0, 0} : a[(2 * m + 1) % kHalves];
              ptx::mma_m16n8k16<T>(sums[0][j][m], {low.x, high.x, low.y, high.y}, b.x, b.y);
              ptx::mma_m16n8k16<T>(sums[kSets - 1][j][m], {low.z, high.z, low.w, high.w}, b.z, b.w);
            }
          }
        }
        ring.release(plan.tiles);
        at += plan.warps_k * (kUnit * 2);
      }
    }

    __syncthreads();  // the activations have been read
#pragma unroll
    for (int j = 0; j < kMostTiles; ++j) {
      if (j >= tiles) break;
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        float v[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) v[e] = kSets == 1 ? sums[0][j][m][e] : sums[0][j][m][e] + sums[1][j][m][e];
        float* to = sums_of_warps + ((warp_k * all_tiles + first_tile + j) * kBlocks + m) * Sums<kClass>::kFloats;
        if constexpr (kClass == 8) {
          reinterpret_cast<float2*>(to)[lane] = {v[0], v[1]};
        } else {
          reinterpret_cast<float4*>(to)[lane] = {v[0], v[1], v[2], v[3]};
        }
      }
    }
    __syncthreads();
    const int stride = all_tiles * kBlocks * Sums<kClass>::kFloats;
    finish(pass_row, [&](int tile, int token, int row) {
      const float* from = sums_of_warps + Sums<kClass>::at(tile, token, row);
      float sum = from[0];
      for (int w = 1; w < plan.warps_k; ++w) sum += from[w * stride];
      return sum;
    });
    if (pass_row + plan.pass_rows < part.rows) __syncthreads();
  }
}

template <class T>
__device__ __forceinline__ void prefetch(const PhaseArgs& phase) {
  if (phase.prefetch_bytes == 0) return;
  const BlockPart part(phase);
  const int left = (phase.gemm.k - part.k) * 2 / 16 * 16;
  const auto bytes = static_cast<std::uint32_t>(min(phase.prefetch_bytes, min(left, part.units * kUnit * 2)));
  if (bytes == 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < part.rows; i += static_cast<int>(blockDim.x)) {
    const std::int64_t row = part.row + i;
    ptx::prefetch_l2(static_cast<const T*>(phase.gemm.w.data) + row * phase.gemm.w.row_stride + part.k, bytes);
    if (!phase.gated) continue;
    ptx::prefetch_l2(static_cast<const T*>(phase.gemm.gate.data) + row * phase.gemm.gate.row_stride + part.k, bytes);
  }
}

// body(token, row) for tokens x rows, rows fastest, over the threads of the block; items [begin, end) of them.
template <class Body>
__device__ __forceinline__ void for_items(int rows, int begin, int end, const Body& body) {
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += static_cast<int>(blockDim.x)) {
    const int token = i / rows;
    body(token, i - token * rows);
  }
}

template <class T, int kClass>
__global__ void __launch_bounds__(32 * most_warps(kClass), 1) mlp_kernel(const __grid_constant__ KernelArgs args) {
  extern __shared__ __align__(128) unsigned char shared[];
  unsigned char* const activations = shared + args.ring_bytes;
  float* const bias_up = reinterpret_cast<float*>(shared + args.bias_offset);
  float* const bias_gate = bias_up + args.up.plan.rows;
  float* const bias_down = bias_gate + (args.up.gated ? args.up.plan.rows : 0);
  const int tokens = args.tokens;

  // Nothing of this MLP may be read before the kernels ahead are complete: they may have written x, and the weights
  // too. Drawing weights into L2 is sound all the same: L2 is where every write ends, and no value is kept.
  ptx::grid_dependency_launch();
  prefetch<T>(args.up);
  prefetch<T>(args.down);
  ptx::grid_dependency_wait();

  const BlockPart up(args.up);
  const BlockPart down(args.down);
  Ring<T> ring(args, ptx::shared_address(shared));
  const bool has_bias = args.up.gemm.bias.data != nullptr || args.up.gemm.gate_bias.data != nullptr ||
                        args.down.gemm.bias.data != nullptr;
  const auto load_biases = [&] {
    if (!has_bias) return;
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    for (int r = thread; r < up.rows; r += threads) {
      bias_up[r] = bias_at<T>(args.up.gemm.bias, up.row + r);
      if (args.up.gated) bias_gate[r] = bias_at<T>(args.up.gemm.gate_bias, up.row + r);
    }
    for (int r = thread; r < down.rows; r += threads) bias_down[r] = bias_at<T>(args.down.gemm.bias, down.row + r);
  };

  if (up.rows == 0) {
    ring.fill();
    load_biases();
  } else {
    multiply<T, kClass>(args.up, up, tokens, ring, activations, load_biases, [&](int pass_row, const auto& sum) {
      const int rows = min(args.up.plan.pass_rows, up.rows - pass_row);
      const int half = args.up.plan.pass_rows / kTileRows;
      T* const hidden = static_cast<T*>(args.up.gemm.out) + up.row + pass_row;
      with_form(args.activation.form, [&](auto form) {
        constexpr ActivationForm kForm = decltype(form)::value;
        for_items(rows, 0, tokens * rows, [&](int token, int r) {
          const float bias = has_bias ? bias_up[pass_row + r] : 0.0f;
          float h;
          if (args.up.gated) {
            const float gate = sum(r / kTileRows, token, r % kTileRows) + (has_bias ? bias_gate[pass_row + r] : 0.0f);
            h = gated<kForm>(args.activation, gate, sum(half + r / kTileRows, token, r % kTileRows) + bias);
          } else {
            h = activate<kForm>(args.activation, sum(r / kTileRows, token, r % kTileRows) + bias);
          }
          hidden[token * args.up.gemm.ldo + r] = from_float<T>(h);
        });
      });
    });
  }

  __syncthreads();  // this block's part of the hidden is written, the shared memory of the activations free
  std::uint32_t before = 0;
  if (threadIdx.x == 0) before = ptx::barrier_arrive(args.barrier, static_cast<int>(gridDim.x), blockIdx.x == 0);
  if (down.rows == 0) return;
  if (threadIdx.x == 0) ptx::barrier_wait(args.barrier, before);
  __syncthreads();

  const Gemm& out = args.down.gemm;
  T* const y = static_cast<T*>(out.out) + down.row;
  const int splits = args.down.plan.splits;
  float* const partials = args.partial + static_cast<std::int64_t>(down.row) * splits * tokens;  // of all splits
  const int items = tokens * down.rows;
  multiply<T, kClass>(args.down, down, tokens, ring, activations, [] {}, [&](int pass_row, const auto& sum) {
    const int rows = min(args.down.plan.pass_rows, down.rows - pass_row);
    for_items(rows, 0, tokens * rows, [&](int token, int r) {
      const float v = sum(r / kTileRows, token, r % kTileRows);
      if (splits == 1) {
        y[token * out.ldo + pass_row + r] = from_float<T>(v + (has_bias ? bias_down[pass_row + r] : 0.0f));
      } else {
        partials[down.split * items + token * down.rows + pass_row + r] = v;
      }
    });
  });
  if (splits == 1) return;

  // Each of the blocks that share these columns adds the sums of a part of them, in the order of the splits.
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t* counter = args.barrier + (1 + static_cast<int>(blockIdx.x) / splits) * kBarrierStride;
    before = ptx::barrier_arrive(counter, splits, down.split == 0);
    ptx::barrier_wait(counter, before);
  }
  __syncthreads();
  for_items(down.rows, down.split * items / splits, (down.split + 1) * items / splits, [&](int token, int r) {
    float v = 0;
    for (int s = 0; s < splits; ++s) v += __ldcg(partials + s * items + token * down.rows + r);
    y[token * out.ldo + r] = from_float<T>(v + (has_bias ? bias_down[r] : 0.0f));
  });
}

template <class T, int kClass>
Status launch_class(const Call& call, cudaStream_t stream) {
  const Plan& plan = call.plan;
  KernelArgs args{};
  args.up = {call.products.hidden, plan.up, call.gated, 0};
  args.down = {call.products.out, plan.down, false, 0};
  if (plan.prefetch_bytes > 0 && call.overlaps_predecessor) {
    const int up_rows = plan.up.rows * (call.gated ? 2 : 1);
    args.up.prefetch_bytes = plan.prefetch_bytes / up_rows / 128 * 128;
    const int up_bytes = divide_up(args.up.gemm.k, kUnit) * kUnit * 2 * up_rows;
    if (up_bytes < plan.prefetch_bytes) {
      args.down.prefetch_bytes = (plan.prefetch_bytes - up_bytes) / plan.down.rows / 128 * 128;
    }
  }
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
