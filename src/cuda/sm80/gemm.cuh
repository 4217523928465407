// One product of an MLP on the tensor cores with instructions that every GPU from Ampere on has: 16-bit operands come
// through a ring of shared-memory stages (cp.async), fp32 sums stay in registers, bias and activation are applied to
// them. In a gated product a warp holds the gate and the up of the same outputs.
//
// Any size, stride and alignment: what cannot be copied 16 bytes at a time is read element by element by a kernel of
// its own, what lies outside is zero. Sums are taken in the same order whatever the tile and the layout.
#pragma once

#include <cstring>

#include "cuda/common/activations.cuh"
#include "cuda/common/fast_activation.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/numeric.cuh"
#include "cuda/ptx/cp_async.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/sm80/fragments.cuh"
#include "cuda/sm80/loads.cuh"
#include "cuda/sm80/tiles.h"

namespace fusedmlp::cuda::sm80 {

constexpr int kGroupRows = 16;  // row tiles that run side by side, for the reuse of weights in L2

struct KernelArgs {
  Gemm gemm;
  ActivationArgs activation;
  FastActivation fast;  // in its place, if it is ActivationShape::normal
  bool store_vectors;   // whole chunks of the output are 16-byte aligned
  int stages;
  int tiles_m, tiles_n;
  int splits, split_depth;  // k of a split, a multiple of kDepth
  float* partial;
};

// Ends a stage's copies. A wait takes a constant: it leaves the newest kWanted - 2 groups under way. Where shared
// memory holds fewer stages than kWanted, groups without any copy follow, so that those are no stage too many.
template <int kWanted>
__device__ __forceinline__ void commit_stage(int stages) {
  static_assert(kWanted == 3 || kWanted == 4);
  ptx::cp_async_commit();
  if (stages < kWanted) {
    ptx::cp_async_commit();
    if (stages < kWanted - 1) ptx::cp_async_commit();
  }
}

// body(f), f(gate, up) being an output before it is rounded: one branch for a whole tile of elements.
template <class T, bool kDual, class Body>
__device__ __forceinline__ void with_activation(const KernelArgs& args, const Body& body) {
  if constexpr (!kDual) {
    if (args.fast.shape == ActivationShape::normal) {
      return body(
          [&](float, float up) { return activate<ActivationShape::normal, kCoefficients<T>>(args.fast, up); });
    }
  }
  with_form(args.activation.form, [&](auto form) {
    constexpr ActivationForm kForm = decltype(form)::value;
    body([&](float gate, float up) {
      if constexpr (kDual) return gated<kForm>(args.activation, gate, up);
      return activate<kForm>(args.activation, up);
    });
  });
}

// kAccess: of the weights; with elements all operands are read element by element.
template <class T, bool kDual, TileName kTileName, Access kAccess>
__global__ void __launch_bounds__(Tile<kDual, kTileName>::kThreads, Tile<kDual, kTileName>::kShape.blocks_per_sm)
    gemm_kernel(const __grid_constant__ KernelArgs args) {
  using Tile = Tile<kDual, kTileName>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const std::uint32_t shared = ptx::shared_address(shared_bytes);
  const Gemm& g = args.gemm;

  // Which tile: groups of kGroupRows row tiles, the row running fastest in a group.
  const int split = static_cast<int>(blockIdx.x) % args.splits;
  const int index = static_cast<int>(blockIdx.x) / args.splits;
  const int per_group = kGroupRows * args.tiles_n;
  const int group_row = index / per_group * kGroupRows;
  const int group_rows = min(kGroupRows, args.tiles_m - group_row);
  const std::int64_t row = static_cast<std::int64_t>(group_row + index % per_group % group_rows) * Tile::kM;
  const int col = index % per_group / group_rows * Tile::kN;
  const int k_begin = split * args.split_depth;
  const int k_end = min(g.k, k_begin + args.split_depth);
  const int k_tiles = (k_end - k_begin + kDepth - 1) / kDepth;
  const int rows_left = static_cast<int>(min(g.m - row, static_cast<std::int64_t>(Tile::kM)));

  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp_m = warp / Tile::kShape.warps_n * Tile::kWarpM;
  const unsigned warp_n = warp % Tile::kShape.warps_n * Tile::kWarpN;

  constexpr int kParts = Tile::kShape.copy_parts;
  constexpr bool kElements = kAccess == Access::elements, kAlongN = kAccess == Access::vectors_along_n;
  using LoaderA = std::conditional_t<kElements, ElementLoader<T, Tile::kM, Tile::kThreads>,
                                     VectorLoader<T, Tile::kM, Tile::kThreads, false, kParts>>;
  using LoaderW = std::conditional_t<kElements, ElementLoader<T, Tile::kN, Tile::kThreads>,
                                     VectorLoader<T, Tile::kN, Tile::kThreads, kAlongN, kParts>>;
  const auto weight = [&](const Weight& w) {
    return LoaderW(static_cast<const T*>(w.data) + col * w.row_stride, w.row_stride, w.col_stride, g.n - col, k_begin,
                   k_end);
  };
  LoaderA load_a(static_cast<const T*>(g.a) + row * g.lda, g.lda, 1, rows_left, k_begin, k_end);
  LoaderW load_w = weight(g.w);
  LoaderW load_gate = weight(kDual ? g.gate : g.w);
  const auto load_weights = [&](auto inside, std::uint32_t stage, int part) {
    load_w.template copy<inside>(stage + Tile::kBytesA, part);
    if constexpr (kDual) load_gate.template copy<inside>(stage + Tile::kBytesA + Tile::kBytesW, part);
  };
  const auto load_inputs = [&](auto inside, std::uint32_t stage, int part) {
    load_a.template copy<inside>(stage, part);
  };
  const auto load_stage = [&](const auto& load, int stage) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) load(std::false_type{}, shared + stage * Tile::kStageBytes, part);
  };

  constexpr unsigned kBiases = Tile::kWeights * Tile::kN;
  __shared__ float biases[kBiases];  // of the outputs, then of their gates

  // The predecessor wrote a, not the weights: they are on their way while it finishes. So are the biases, one a
  // thread: fetched in the epilogue, each column would wait for its own (2.3 us in all on an H200).
  ptx::grid_dependency_launch();
  for (int i = 0; i < args.stages - 1; ++i) {
    if (i < k_tiles) load_stage(load_weights, i);
  }
  const int bias_column = col + static_cast<int>(threadIdx.x) % Tile::kN;
  float bias = 0.0f;
  if (args.splits == 1 && threadIdx.x < kBiases && bias_column < g.n) {
    bias = bias_at<T>(threadIdx.x < Tile::kN ? g.bias : g.gate_bias, bias_column);
  }
  ptx::grid_dependency_wait();
  for (int i = 0; i < args.stages - 1; ++i) {
    if (i < k_tiles) load_stage(load_inputs, i);
    commit_stage<Tile::kShape.stages>(
        args.stages);  // the weights of every stage are in the first group, so each group is complete
  }

  if (threadIdx.x < kBiases) biases[threadIdx.x] = bias;

  float sums[Tile::kWeights][Tile::kMmaM][Tile::kMmaN][4] = {};
  Fragments<Tile> fragments[2];
  const FragmentAddress<Tile, kAlongN> at(warp_m, warp_n);
  ptx::cp_async_wait<Tile::kShape.stages - 2>();
  __syncthreads();
  std::uint32_t read = shared;
  const std::uint32_t end = shared + args.stages * Tile::kStageBytes;
  std::uint32_t write = end - Tile::kStageBytes;
  load_fragments(at, read, 0, fragments[0]);

  const auto multiply = [&](auto inside, auto all_stages) {
#pragma unroll 1
    for (int k_tile = 0; k_tile < k_tiles; ++k_tile) {
      const bool more = k_tile + args.stages - 1 < k_tiles;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        if (step == kSteps - 1) {  // the next stage is complete, and every warp has read all of this one
          ptx::cp_async_wait<Tile::kShape.stages - 2>();
          __syncthreads();
          read = read + Tile::kStageBytes == end ? shared : read + Tile::kStageBytes;
        }
        // Behind the last stage this reads what nobody uses.
        load_fragments(at, read, (step + 1) % kSteps, fragments[(step + 1) % 2]);
        if (step < kParts) {
          if (more) {
            load_weights(inside, write, step);
            load_inputs(inside, write, step);
          }
          if (step == kParts - 1) {
            commit_stage<Tile::kShape.stages>(decltype(all_stages)::value ? Tile::kShape.stages : args.stages);
            write = write + Tile::kStageBytes == end ? shared : write + Tile::kStageBytes;
          }
        }
        // Up and down the rows: each product shares a fragment with the one before it. The other way round, along the
        // weights, 2 % slower.
        const Fragments<Tile>& f = fragments[step % 2];
#pragma unroll
        for (int w = 0; w < Tile::kWeights; ++w) {
#pragma unroll
          for (int j = 0; j < Tile::kMmaN; ++j) {
#pragma unroll
            for (int at_row = 0; at_row < Tile::kMmaM; ++at_row) {
              const int i = j % 2 == 0 ? at_row : Tile::kMmaM - 1 - at_row;
              ptx::mma_m16n8k16<T>(sums[w][i][j], f.a[i], f.b[w][j / 2][j % 2 * 2], f.b[w][j / 2][j % 2 * 2 + 1]);
            }
          }
        }
      }
    }
  };
  // Most tiles lie inside the operands: checking every chunk takes up to 7 % of their time, a branch a stage 3 %.
  const bool inside = rows_left == Tile::kM && g.n - col >= Tile::kN && (k_end - k_begin) % kDepth == 0;
  if (kElements || !inside) {
    multiply(std::false_type{}, std::false_type{});
  } else if constexpr (!kElements) {
    if (args.stages < Tile::kShape.stages) {
      multiply(std::true_type{}, std::false_type{});
    } else {
      multiply(std::true_type{}, std::true_type{});
    }
  }

  // Element e of sums[.][i][j] is at row 16 i + lane / 4 + 8 (e / 2), column 8 j + lane % 4 * 2 + e % 2 of the warp.
  // An epilogue is a loop of two turns that the second half of the sums moves up for: unrolled it is up to 50 KB of
  // code that each block runs once, and waits for where other kernels have run since.
  constexpr int kTurn = Tile::kMmaM > 1 ? Tile::kMmaM / 2 : 1;
  static_assert(Tile::kMmaM % kTurn == 0);
  const auto next_turn = [&] {
#pragma unroll
    for (int w = 0; w < Tile::kWeights; ++w) {
#pragma unroll
      for (int i = kTurn; i < Tile::kMmaM; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::kMmaN; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[w][i - kTurn][j][e] = sums[w][i][j][e];
        }
      }
    }
  };
  const int first_row = static_cast<int>(warp_m + lane / 4);
  const int first_col = col + static_cast<int>(warp_n + lane % 4 * 2);
  if (args.splits > 1) {
#pragma unroll 1
    for (int turn = 0; turn < Tile::kMmaM; turn += kTurn, next_turn()) {
#pragma unroll
      for (int w = 0; w < Tile::kWeights; ++w) {
        float* to = args.partial + static_cast<std::int64_t>(split * Tile::kWeights + w) * g.m * g.n + row * g.n;
#pragma unroll
        for (int i = 0; i < kTurn; ++i) {
#pragma unroll
          for (int j = 0; j < Tile::kMmaN; ++j) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int m = first_row + 16 * (turn + i) + 8 * half, n = first_col + 8 * j;
              if (m >= rows_left || n >= g.n) continue;
              float* pair = to + static_cast<std::int64_t>(m) * g.n + n;
              const float x = sums[w][i][j][2 * half], y = sums[w][i][j][2 * half + 1];
              if (g.n % 2 == 0) {
                *reinterpret_cast<float2*>(pair) = {x, y};
              } else {
                pair[0] = x;
                if (n + 1 < g.n) pair[1] = y;
              }
            }
          }
        }
      }
    }
    return;
  }

  // Each warp turns its sums into outputs in a part of the stages, then stores whole rows.
  ptx::cp_async_wait<0>();
  __syncthreads();
  unsigned char* staging = shared_bytes + warp * Tile::kWarpM * Tile::kOutPitch;
  const float* column_biases = biases + (first_col - col);
  with_activation<T, kDual>(args, [&](const auto& activated) {
#pragma unroll 1
    for (int turn = 0; turn < Tile::kMmaM; turn += kTurn, next_turn()) {
      unsigned char* to = staging + (16 * turn + lane / 4) * Tile::kOutPitch + lane % 4 * 4;
#pragma unroll
      for (int j = 0; j < Tile::kMmaN; ++j) {
#pragma unroll
        for (int i = 0; i < kTurn; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            __align__(4) T pair[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const float up = sums[0][i][j][half * 2 + e] + column_biases[8 * j + e];
              float gate = 0.0f;
              if constexpr (kDual) gate = sums[1][i][j][half * 2 + e] + column_biases[Tile::kN + 8 * j + e];
              pair[e] = from_float<T>(activated(gate, up));
            }
            *reinterpret_cast<std::uint32_t*>(to + (16 * i + 8 * half) * Tile::kOutPitch + 16 * j) =
                *reinterpret_cast<const std::uint32_t*>(pair);
          }
        }
      }
    }
  });
  __syncwarp();
  constexpr unsigned kOutChunks = Tile::kWarpN / kChunk;
  const auto store = [&](unsigned i, bool whole) {
    const unsigned r = i / kOutChunks;
    const int n = col + static_cast<int>(warp_n + i % kOutChunks * kChunk);
    const int m = static_cast<int>(warp_m + r);
    if (!whole && (m >= rows_left || n >= g.n)) return;
    const T* from = reinterpret_cast<const T*>(staging + r * Tile::kOutPitch) + i % kOutChunks * kChunk;
    T* to = static_cast<T*>(g.out) + (row + m) * g.ldo + n;
    if (whole || (args.store_vectors && n + static_cast<int>(kChunk) <= g.n)) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int j = 0; j < min(static_cast<int>(kChunk), g.n - n); ++j) to[j] = from[j];
    }
  };
  constexpr unsigned kStores = Tile::kWarpM * kOutChunks / 32;  // of a thread
  static_assert(kStores * 32 == Tile::kWarpM * kOutChunks);
  if (args.store_vectors && rows_left == Tile::kM && g.n - col >= Tile::kN) {
#pragma unroll
    for (unsigned i = 0; i < kStores; ++i) store(lane + 32 * i, true);
  } else {
#pragma unroll 1
    for (unsigned i = 0; i < kStores; ++i) store(lane + 32 * i, false);
  }
}

// Adds the splits' sums in their order, then bias and activation. Four columns a thread, or one where rows are not
// whole fours.
template <class T, bool kDual, int kColumns>
__global__ void __launch_bounds__(256) finish_kernel(const __grid_constant__ KernelArgs args) {
  constexpr int kWeights = kDual ? 2 : 1;
  ptx::grid_dependency_launch();
  const Gemm& g = args.gemm;
  const unsigned count = static_cast<unsigned>(g.m) * static_cast<unsigned>(g.n);  // at most kMostPartials
  const unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * kColumns;
  if (i >= count) return;
  const unsigned row = i / static_cast<unsigned>(g.n);
  const int n = static_cast<int>(i - row * static_cast<unsigned>(g.n));
  float biases[kWeights][kColumns];
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    biases[0][j] = bias_at<T>(g.bias, n + j);
    if constexpr (kDual) biases[1][j] = bias_at<T>(g.gate_bias, n + j);
  }
  ptx::grid_dependency_wait();
  float parts[kWeights][kColumns] = {};
#pragma unroll 4
  for (int split = 0; split < args.splits; ++split) {
#pragma unroll
    for (int w = 0; w < kWeights; ++w) {
      const float* from = args.partial + (split * kWeights + w) * static_cast<std::int64_t>(count) + i;
      if constexpr (kColumns == 4) {
        const float4 part = *reinterpret_cast<const float4*>(from);
        parts[w][0] += part.x;
        parts[w][1] += part.y;
        parts[w][2] += part.z;
        parts[w][3] += part.w;
      } else {
        parts[w][0] += *from;
      }
    }
  }
  T out[kColumns];
  with_activation<T, kDual>(args, [&](const auto& activated) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      float gate = 0.0f;
      if constexpr (kDual) gate = parts[1][j] + biases[1][j];
      out[j] = from_float<T>(activated(gate, parts[0][j] + biases[0][j]));
    }
  });
  T* to = static_cast<T*>(g.out) + static_cast<std::int64_t>(row) * g.ldo + n;
  if (kColumns == 4 && args.store_vectors) {
    uint2 word;
    std::memcpy(&word, out, sizeof word);
    *reinterpret_cast<uint2*>(to) = word;
  } else {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) to[j] = out[j];
  }
}

inline bool vector_aligned(const void* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % kChunk == 0;
}

inline Access access_of(const Weight& weight, int n, int k) {
  const bool k_runs = weight.col_stride == 1 && vector_aligned(weight.data, weight.row_stride) && k % kChunk == 0;
  const bool n_runs = weight.row_stride == 1 && vector_aligned(weight.data, weight.col_stride) && n % kChunk == 0;
  return k_runs ? Access::vectors_along_k : n_runs ? Access::vectors_along_n : Access::elements;
}

template <class T, bool kDual, TileName kTileName, Access kAccess>
Status launch_gemm(const GemmCall& call, int stages, cudaStream_t stream) {
  using Tile = Tile<kDual, kTileName>;
  const Gemm& g = call.gemm;
  KernelArgs args{};
  args.gemm = g;
  args.activation = call.activation;
  args.fast = call.fast;
  args.store_vectors = vector_aligned(g.out, g.ldo);
  args.stages = stages;
  const std::int64_t tiles_m = (g.m + Tile::kM - 1) / Tile::kM;
  args.tiles_m = static_cast<int>(tiles_m);
  args.tiles_n = (g.n + Tile::kN - 1) / Tile::kN;
  const int k_tiles = (g.k + kDepth - 1) / kDepth;
  args.split_depth = (k_tiles + call.plan.splits - 1) / call.plan.splits * kDepth;
  args.splits = (g.k + args.split_depth - 1) / args.split_depth;  // none without work
  args.partial = call.partial;

  Launch how;
  how.grid = static_cast<unsigned>(args.tiles_m * args.tiles_n * args.splits);
  how.block = Tile::kThreads;
  how.shared_bytes = static_cast<std::size_t>(stages) * Tile::kStageBytes;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  if (recording() != nullptr) how.what = describe(Tile::kM, Tile::kN, args.splits, stages);
  if (Status status = launch<gemm_kernel<T, kDual, kTileName, kAccess>>(kName, how, how.shared_bytes, args);
      !status) {
    return status;
  }
  if (args.splits == 1) return {};
  const int columns = g.n % 4 == 0 ? 4 : 1;
  Launch finish;
  finish.grid = static_cast<unsigned>((g.m * g.n / columns + 255) / 256);
  finish.block = 256;
  finish.stream = stream;
  finish.overlaps_predecessor = call.finish_overlaps;
  if (columns == 4) return launch<finish_kernel<T, kDual, 4>>(kName, finish, 0, args);
  return launch<finish_kernel<T, kDual, 1>>(kName, finish, 0, args);
}

template <class T, bool kDual, Access kAccess>
Status launch_vectors(const GemmCall& call, int stages, cudaStream_t stream) {
  switch (call.plan.tile) {
    case TileName::small: return launch_gemm<T, kDual, TileName::small, kAccess>(call, stages, stream);
    case TileName::medium: return launch_gemm<T, kDual, TileName::medium, kAccess>(call, stages, stream);
    case TileName::square: return launch_gemm<T, kDual, TileName::square, kAccess>(call, stages, stream);
    case TileName::wide:
      if constexpr (!kDual && kAccess == Access::vectors_along_k)
        return launch_gemm<T, kDual, TileName::wide, kAccess>(call, stages, stream);
      break;
    case TileName::large: return launch_gemm<T, kDual, TileName::large, kAccess>(call, stages, stream);
  }
  return Status(StatusCode::internal, "", "unknown tile");
}

template <class T, bool kDual>
Status launch_any_gemm(const GemmCall& call, cudaStream_t stream) {
  const Gemm& g = call.gemm;
  const Access w = access_of(g.w, g.n, g.k);
  const Access gate = kDual ? access_of(g.gate, g.n, g.k) : w;
  const auto stages_of = [&](TileName tile) {
    return stages(kTiles[static_cast<int>(tile)], call.shared_per_sm, call.shared_per_block);
  };
  if (w == Access::elements || gate != w || !vector_aligned(g.a, g.lda) || g.k % kChunk != 0) {
    return launch_gemm<T, kDual, TileName::medium, Access::elements>(call, stages_of(TileName::medium), stream);
  }
  const int count = stages_of(call.plan.tile);
  if (w == Access::vectors_along_n) return launch_vectors<T, kDual, Access::vectors_along_n>(call, count, stream);
  return launch_vectors<T, kDual, Access::vectors_along_k>(call, count, stream);
}

}  // namespace fusedmlp::cuda::sm80
