// A whole MLP of few tokens in one launch: a product, a barrier over the grid, the other product.
#pragma once

#include <algorithm>

#include "cuda/common/activations.cuh"
#include "cuda/common/barrier_slot.h"
#include "cuda/common/launch.h"
#include "cuda/decode/multiply.cuh"
#include "cuda/ptx/grid_barrier.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/prefetch.cuh"

namespace fusedmlp::cuda::decode {

// body(item) for the sums of `tiles` tiles that are some token's, over the threads of the block.
template <int kClass, class Body>
__device__ __forceinline__ void for_items(int begin, int end, int tokens, const Body& body) {
#pragma unroll 1
  for (int item = begin + static_cast<int>(threadIdx.x); item < end; item += static_cast<int>(blockDim.x)) {
    if (item / 32 % Sums<kClass>::kBlocks * 16 + item % 32 / 4 < tokens) body(item);
  }
}

// Stores the finished values of an item, those that lie in the product.
template <class T, int kClass>
__device__ __forceinline__ void store_item(T* out, std::int64_t ldo, int item, int tokens, int rows,
                                           const typename Sums<kClass>::Values& values) {
  const int row = item / (32 * Sums<kClass>::kBlocks) * kTileRows + item % 4 * 2;
#pragma unroll
  for (int e = 0; e < Sums<kClass>::kValues; ++e) {
    const int token = item / 32 % Sums<kClass>::kBlocks * 16 + item % 32 / 4 + e / 2 * 8;
    if (token < tokens && row + e % 2 < rows) out[token * ldo + row + e % 2] = from_float<T>(values.v[e]);
  }
}

template <int kClass>
__device__ __forceinline__ void add_bias(const float* bias, int item, int rows,
                                         typename Sums<kClass>::Values& values) {
  const int row = item / (32 * Sums<kClass>::kBlocks) * kTileRows + item % 4 * 2;
#pragma unroll
  for (int e = 0; e < Sums<kClass>::kValues; ++e) values.v[e] += bias[min(row + e % 2, rows - 1)];
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
    for (int i = static_cast<int>(threadIdx.x); i < part.rows << phase.gated; i += static_cast<int>(blockDim.x)) {
      const int which = i & phase.gated;
      const std::int64_t row = part.row + (i >> phase.gated);
      ptx::prefetch_l2(static_cast<const T*>(phase.weights[which]) + row * phase.strides[which] + part.k,
                       static_cast<std::uint32_t>(bytes));
    }
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
__global__ void __launch_bounds__(32 * most_warps(kClass), 1) mlp_kernel(const __grid_constant__ KernelArgs given) {
  using Values = typename Sums<kClass>::Values;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ __align__(16) std::uint32_t argument_words[sizeof(KernelArgs) / 4];
  static_assert(sizeof(KernelArgs) <= kReservedBytes && sizeof(KernelArgs) % 4 == 0);
  const int thread = static_cast<int>(threadIdx.x);
  ptx::grid_dependency_launch();
  // The arguments are read here and there, each first time a miss of the constant cache: all at once is faster.
  for (int i = thread; i < static_cast<int>(sizeof(KernelArgs) / 4); i += static_cast<int>(blockDim.x)) {
    argument_words[i] = reinterpret_cast<const std::uint32_t*>(&given)[i];
  }
  __syncthreads();
  const KernelArgs& args = *reinterpret_cast<const KernelArgs*>(argument_words);
  unsigned char* const activations = shared + args.ring_bytes;
  float* const bias_up = reinterpret_cast<float*>(shared + args.bias_offset);
  float* const bias_down = bias_up + args.phase[0].rows;
  float* const bias_gate = bias_down + args.phase[1].rows;
  const int tokens = args.tokens;
  const bool has_bias = args.has_bias;

  Ring<T> ring(args, ptx::shared_address(shared));
  prefetch<T>(args);
  ptx::grid_dependency_wait();

  std::uint32_t* const group =
      args.barrier + (1 + (static_cast<int>(blockIdx.x) >> args.phase[1].split_shift)) * kBarrierStride;
  std::uint32_t grid_before = 0, group_before = 0;
  const auto begin = [&] {
    const int depth = args.depth;
#pragma unroll 1
    for (int i = 0; i < depth; ++i) ring.queue();
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
    const int gated_shift = phase.gated;
    const int splits = 1 << phase.split_shift;
    const int warps_k = phase.warps_k;
    const int sums_of_warp = phase.pass_tiles * Sums<kClass>::kBlocks * 32;  // items
    const int items = sums_of_warp >> gated_shift;                           // of a pass
    const int pass_rows = phase.pass_rows;
    const std::int64_t ldo = phase.gemm.ldo;
    T* const out = static_cast<T*>(phase.gemm.out) + part.row;
    // [group of blocks][pass][split][item]
    Values* const partials = reinterpret_cast<Values*>(args.partial) +
                             static_cast<std::int64_t>(static_cast<int>(blockIdx.x) >> phase.split_shift) *
                                 args.most_passes * splits * items;
    const ActivationArgs activation = args.activation;
    if (p == 0 && part.rows == 0) begin();
#pragma unroll 1
    for (int first = 0, first_item = 0; first < part.rows; first += pass_rows, first_item += items) {
      if (first > 0) __syncthreads();  // the sums of the pass before have been read
      multiply<T, kClass>(phase, part, tokens, ring, activations, [&] {
        if (p == 0 && first == 0) begin();
      });
      for_items<kClass>(0, items, tokens, [&](int item) {
        constexpr int kTileItems = Sums<kClass>::kBlocks * 32;
        const int apart = gated_shift * kTileItems;  // up's from gate's
        Values v{}, up{};
        sum_of_warps<kClass>(activations, item + item / kTileItems * apart, apart, sums_of_warp, warps_k, v, up);
        if (splits > 1) {
          partials[(first_item * splits + part.split * items) + item] = v;
          return;
        }
        const int left = part.rows - first;
        if (has_bias) {
          const float* bias = p == 1 ? bias_down : apart > 0 ? bias_gate : bias_up;
          add_bias<kClass>(bias + first, item, left, v);
          if (apart > 0) add_bias<kClass>(bias_up + first, item, left, up);
        }
        if (p == 0) {
          with_form(activation.form, [&](auto form) {
            constexpr ActivationForm kForm = decltype(form)::value;
#pragma unroll
            for (int e = 0; e < Sums<kClass>::kValues; ++e) {
              v.v[e] = apart > 0 ? gated<kForm>(activation, v.v[e], up.v[e]) : activate<kForm>(activation, v.v[e]);
            }
          });
        }
        store_item<T, kClass>(out + first, ldo, item, tokens, left, v);
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
      // Each of the blocks that share these columns adds some of the sums, in the order of the splits.
#pragma unroll 1
      for (int first = 0, first_item = 0; first < part.rows; first += pass_rows, first_item += items) {
        for_items<kClass>(part.split * items >> phase.split_shift, (part.split + 1) * items >> phase.split_shift,
                          tokens, [&](int item) {
                            const float* from = partials[first_item * splits + item].v;
                            Values v{};
#pragma unroll 4
                            for (int s = 0; s < splits; ++s) {
#pragma unroll
                              for (int e = 0; e < Sums<kClass>::kValues; ++e) {
                                v.v[e] += __ldcg(from + s * items * Sums<kClass>::kValues + e);
                              }
                            }
                            if (has_bias) add_bias<kClass>(bias_down + first, item, part.rows - first, v);
                            store_item<T, kClass>(out + first, ldo, item, tokens, part.rows - first, v);
                          });
      }
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
  args.gated = gated ? 1 : 0;
  const Weight& first = gated ? gemm.gate : gemm.w;
  args.weights[0] = first.data;
  args.strides[0] = first.row_stride;
  args.weights[1] = gemm.w.data;
  args.strides[1] = gemm.w.row_stride;
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
  args.most_passes = plan.down.passes;
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
  return launch<mlp_kernel<T, kClass>>(kName, how, call.most_shared - kReservedBytes, args);
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
