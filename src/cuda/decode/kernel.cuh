// A whole MLP of few tokens in one launch.
//
// Products by mma.sync with tokens as the 16 rows of the first operand and 8 weight rows as the columns of the
// second. Where the instruction wants k in pairs (2t, 2t + 1) and (2t + 8, 2t + 9) of 16, both operands give the 16
// bytes that lane t of 4 holds: k is permuted alike in both, and a lane reads whole 16-byte pieces of its row.
//
// Sums are taken in an order that depends on the plan alone.
#pragma once

#include <algorithm>
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
__device__ __forceinline__ void load_activations(const PhaseArgs& phase, int k, int units, std::uint32_t to,
                                                 int pitch) {
  const int threads = 1 << phase.chunk_shift;  // of a row
  const int thread = static_cast<int>(threadIdx.x);
  const int chunks = units * (kUnit / kChunk);  // of 16 bytes in a row
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

// How the sums of a pass lie, in shared memory as among splits: [tile][16 tokens][lane][value], as the products give
// them: value e of lane l is token l / 4 + 8 (e / 2), row 2 (l % 4) + e % 2 of the tile.
template <int kClass>
struct Sums {
  static constexpr int kBlocks = kClass == 8 ? 1 : kClass / 16;  // of 16 tokens
  static constexpr int kValues = kClass == 8 ? 2 : 4;            // a lane; with 8 tokens the upper ones are none
  static_assert(32 * kValues == sum_floats(kClass));
  struct __align__(4 * kValues) Values {
    float v[kValues];
  };
};

// Adds a step, kUnits units of each of kTiles tiles: this lane's part of the first piece at `weights`; the
// activations of the first unit at `activations` + rows[.], of the next ones `apart` bytes on. Units from `units` on
// are none of the product's. Every piece has sums of its own, so that few of the products wait for each other.
template <class T, int kClass, int kTiles, int kUnits, int kSets, int kBlocks>
__device__ __forceinline__ void multiply_step(std::uint32_t weights, std::uint32_t activations, int apart, int units,
                                              const std::uint32_t (&rows)[kClass / 8],
                                              float (&sums)[kSets][kStepUnits][kBlocks][4]) {
  constexpr int kBuffers = kUnits == 1 && kBlocks > 1 ? 2 : 1;  // of 16 tokens' activations
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint4 b[kTiles * kUnits], low[kBuffers][kUnits], high[kBuffers][kUnits];
    const auto load_rows = [&](int m) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const std::uint32_t at = activations + (u < units ? u * apart : 0) + half * (kLineBytes / 2);
        low[m % kBuffers][u] = load_shared(at + rows[2 * m]);
        high[m % kBuffers][u] = kClass == 8 ? uint4{} : load_shared(at + rows[(2 * m + 1) % (kClass / 8)]);
      }
    };
#pragma unroll
    for (int s = 0; s < kTiles * kUnits; ++s)
      b[s] = load_shared((weights ^ half * (kLineBytes / 2)) + s * kUnitBytes);
    if (kBuffers == 2) load_rows(0);
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
      if (kBuffers == 1) load_rows(m);
      if (kBuffers == 2 && m + 1 < kBlocks) load_rows(m + 1);
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if (u > 0 && u >= units) break;
        const uint4 l = low[m % kBuffers][u], h = high[m % kBuffers][u];
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const int s = j * kUnits + u;
          ptx::mma_m16n8k16<T>(sums[0][s][m], {l.x, h.x, l.y, h.y}, b[s].x, b[s].y);
        }
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const int s = j * kUnits + u;
          ptx::mma_m16n8k16<T>(sums[kSets - 1][s][m], {l.z, h.z, l.w, h.w}, b[s].z, b[s].w);
        }
      }
    }
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
  const int chunk_units = phase.chunk_units;
  const int buffer_mask = phase.buffers - 1;
  const int step_shift = phase.step_shift;
  const int warps_k = phase.warps_k;
  const int inverse = phase.warps_k_inverse;
  const int pitch = activation_pitch(chunk_units);
  const std::uint32_t shared = ptx::shared_address(activations);
  std::uint32_t rows[kHalves];  // beyond the last token the last one again: those sums are not used
#pragma unroll
  for (int i = 0; i < kHalves; ++i) rows[i] = min(8 * i + lane / 4, tokens - 1) * pitch + lane % 4 * 16;

  float sums[kSets][kStepUnits][kBlocks][4] = {};
  int loaded = 0;  // steps queued before the newest chunk of activations
  int unit = warp.tiles > 0 ? warp.unit : part.units;
  // Before chunk 0 nothing is multiplied; while a chunk is, the next one is under way.
#pragma unroll 1
  for (int chunk = -1; chunk * chunk_units < part.units; ++chunk) {
    const int first = (chunk + 1) * chunk_units;  // of the next chunk
    if (chunk >= 0) {
      ring.wait_for_older(loaded);
      __syncthreads();
    }
    if (first < part.units) {
      load_activations<T>(phase, part.k + first * kUnit, min(chunk_units, part.units - first),
                          shared + ((chunk + 1) & buffer_mask) * tokens * pitch, pitch);
      ptx::cp_async_commit();
      loaded = ring.queued();
    }
    if (chunk < 0) {
      meanwhile();
      continue;
    }
    const int end = min(part.units, first);
    const std::uint32_t buffer = shared + (chunk & buffer_mask) * tokens * pitch - chunk * chunk_units * kUnitStep;
#pragma unroll 1
    for (; unit < end; unit += warps_k << step_shift) {
      ring.wait();
      const std::uint32_t at = buffer + unit * kUnitStep;
      const int apart = warps_k * kUnitStep;
      // How many units of k the step really has: all but in the end, warps_k apart.
      const int units = step_shift == 0 ? 1 : (min(end - unit - 1, 3 * warps_k) * inverse >> 16) + 1;
      if (warp.tiles == 4) {
        multiply_step<T, kClass, 4, 1>(ring.oldest(), at, apart, units, rows, sums);
      } else if (warp.tiles == 3) {
        multiply_step<T, kClass, 3, 1>(ring.oldest(), at, apart, units, rows, sums);
      } else if (step_shift == 2) {
        multiply_step<T, kClass, 1, 4>(ring.oldest(), at, apart, units, rows, sums);
      } else if (warp.tiles == 2) {
        if (step_shift == 1) {
          multiply_step<T, kClass, 2, 2>(ring.oldest(), at, apart, units, rows, sums);
        } else {
          multiply_step<T, kClass, 2, 1>(ring.oldest(), at, apart, units, rows, sums);
        }
      } else if (step_shift == 1) {
        multiply_step<T, kClass, 1, 2>(ring.oldest(), at, apart, units, rows, sums);
      } else {
        multiply_step<T, kClass, 1, 1>(ring.oldest(), at, apart, units, rows, sums);
      }
      ring.replace_oldest();
    }
  }

  __syncthreads();  // the activations have been read
  using Values = typename Sums<kClass>::Values;
  Values* const all =
      reinterpret_cast<Values*>(activations) + (warp.unit * phase.pass_tiles + warp.tile) * kBlocks * 32 + lane;
  const auto store = [&](auto tiles, auto units) {  // of a step
#pragma unroll
    for (int j = 0; j < tiles.value; ++j) {
      if (j >= warp.tiles) break;
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        Values values{};
#pragma unroll
        for (int e = 0; e < Sums<kClass>::kValues; ++e) {
#pragma unroll
          for (int u = 0; u < units.value; ++u) {
#pragma unroll
            for (int set = 0; set < kSets; ++set) values.v[e] += sums[set][j * units.value + u][m][e];
          }
        }
        all[(j * kBlocks + m) * 32] = values;
      }
    }
  };
  using std::integral_constant;
  if (step_shift == 0) {
    store(integral_constant<int, 4>(), integral_constant<int, 1>());
  } else if (step_shift == 1) {
    store(integral_constant<int, 2>(), integral_constant<int, 2>());
  } else {
    store(integral_constant<int, 1>(), integral_constant<int, 4>());
  }
  __syncthreads();
}

// What the warps along k have summed: lane `item` % 32 of 16 tokens and a tile, item / 32, and in `second` the same
// of the item `apart` on; `second` is left alone where `apart` is 0.
template <int kClass>
__device__ __forceinline__ void sum_of_warps(const unsigned char* activations, int item, int apart, int stride,
                                             int warps_k, typename Sums<kClass>::Values& first,
                                             typename Sums<kClass>::Values& second) {
  const auto* from = reinterpret_cast<const typename Sums<kClass>::Values*>(activations) + item;
#pragma unroll 4
  for (int w = 0; w < warps_k; ++w) {
#pragma unroll
    for (int e = 0; e < Sums<kClass>::kValues; ++e) {
      first.v[e] += from[w * stride].v[e];
      if (apart > 0) second.v[e] += from[w * stride + apart].v[e];
    }
  }
}

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
