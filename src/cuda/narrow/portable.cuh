// A whole MLP of width <= 256 in one launch, on instructions that every GPU from Ampere on has: the hidden never
// leaves the registers.
//
// A block takes kTokens tokens through the hidden in chunks. A warp makes its tokens' chunk of the hidden from the
// input tile in shared memory and the first weights; bias and activation turn the accumulators into A fragments of
// the second product, whose accumulators are the outputs. Weights come through two shared-memory stages (cp.async).
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda/common/launch.h"
#include "cuda/narrow/activation.cuh"
#include "cuda/narrow/narrow.h"
#include "cuda/ptx/cp_async.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/mma.cuh"

namespace fusedmlp::cuda::narrow {

// Rows of 16-bit elements in shared memory, chunks of 16 bytes swizzled so that ldmatrix meets no bank conflict.
template <int kColumns>
struct Rows {
  static constexpr unsigned kBytes = kColumns * 2;
  static constexpr unsigned kChunks = kColumns / 8;
  static constexpr unsigned kPerLine = kBytes >= 128 ? 1 : 128 / kBytes;  // rows of 128 bytes of banks
  static constexpr unsigned kMask = kChunks < 8 ? kChunks - 1 : 7;

  static __device__ __forceinline__ unsigned at(unsigned row, unsigned chunk) {
    return row * kBytes + ((chunk ^ (row / kPerLine & kMask)) << 4);
  }
};

template <int kWidth_, bool kGated_>
struct PortableTile {
  static constexpr int kWidth = kWidth_;
  static constexpr bool kGated = kGated_;
  static constexpr int kWeights = kGated ? 2 : 1;
  static constexpr int kChunk = kGated && kWidth > 128 ? 16 : 32;  // hidden units
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kMmaM = kWidth > 128 || kGated ? 1 : 2;  // 16 tokens each, of a warp
  static constexpr int kTokens = kWarps * kMmaM * 16;
  using Wide = Rows<kWidth>;
  using Narrow = Rows<kChunk>;
  static constexpr unsigned kUpBytes = kChunk * Wide::kBytes, kDownBytes = kWidth * Narrow::kBytes;
  static constexpr unsigned kStageBytes = kWeights * kUpBytes + kDownBytes;
  static constexpr unsigned kOffsetStages = kTokens * Wide::kBytes;
  static constexpr unsigned kOffsetBias = kOffsetStages + 2 * kStageBytes;
  static constexpr unsigned kShared = kOffsetBias + 2 * kWeights * kChunk * 4;
  static_assert(kShared <= 99 * 1024, "what a block of every GPU can have");
};

struct PortableParams {
  Gemm hidden, out;  // hidden.out and out.a are not there
  FastActivation f;
};

// A thread's part of copying kRows rows of a matrix: `rows` and `columns` of it are inside.
template <class T, class Layout, int kRows, int kThreads>
__device__ __forceinline__ void copy_rows(std::uint32_t to, const T* from, std::int64_t stride, std::int64_t rows,
                                          int columns) {
  constexpr int kCopies = kRows * static_cast<int>(Layout::kChunks) / kThreads;
  static_assert(kCopies * kThreads == kRows * static_cast<int>(Layout::kChunks));
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const unsigned index = threadIdx.x + i * kThreads;
    const unsigned row = index / Layout::kChunks, chunk = index % Layout::kChunks;
    const int left = row < rows ? columns - static_cast<int>(chunk * 8) : 0;
    const int bytes = 2 * max(0, min(8, left));
    ptx::cp_async_part(to + Layout::at(row, chunk), from + (bytes > 0 ? row * stride + chunk * 8 : 0), bytes);
  }
}

// c += a b^T for kN columns, b in shared memory as [column][k]: k step `step`.
template <class T, class Layout, int kM, int kN>
__device__ __forceinline__ void multiply(float (&c)[kM][kN / 8][4], const std::uint32_t (&a)[kM][4], std::uint32_t b,
                                         int step) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned row = lane % 8 + lane / 16 * 8, chunk = lane / 8 % 2;
#pragma unroll
  for (int n = 0; n < kN / 16; ++n) {
    std::uint32_t f[4];
    ptx::ldmatrix_x4(f, b + Layout::at(16 * n + row, 2 * step + chunk));
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      ptx::mma_m16n8k16<T>(c[m][2 * n], a[m], f[0], f[1]);
      ptx::mma_m16n8k16<T>(c[m][2 * n + 1], a[m], f[2], f[3]);
    }
  }
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2) portable(const __grid_constant__ PortableParams p) {
  constexpr int kWeights = Tile::kWeights, kMmaM = Tile::kMmaM, kChunk = Tile::kChunk, kWidth = Tile::kWidth;
  using Wide = typename Tile::Wide;
  using Narrow = typename Tile::Narrow;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const std::uint32_t shared = ptx::shared_address(shared_bytes);
  float* const bias_table = reinterpret_cast<float*>(shared_bytes + Tile::kOffsetBias);  // [stage][weight][unit]
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t first_token = static_cast<std::int64_t>(blockIdx.x) * Tile::kTokens;
  const Gemm& g = p.hidden;
  const int hidden = g.n, chunks = (hidden + kChunk - 1) / kChunk;

  ptx::grid_dependency_launch();
  ptx::grid_dependency_wait();
  const auto copy_weights = [&](int chunk) {
    const std::uint32_t stage = shared + Tile::kOffsetStages + chunk % 2 * Tile::kStageBytes;
    const int unit = chunk * kChunk;
#pragma unroll
    for (int w = 0; w < kWeights; ++w) {  // gate, up
      const Weight& weight = Tile::kGated && w == 0 ? g.gate : g.w;
      copy_rows<T, Wide, kChunk, Tile::kThreads>(stage + w * Tile::kUpBytes,
                                                 static_cast<const T*>(weight.data) + unit * weight.row_stride,
                                                 weight.row_stride, hidden - unit, g.k);
    }
    copy_rows<T, Narrow, kWidth, Tile::kThreads>(stage + kWeights * Tile::kUpBytes,
                                                 static_cast<const T*>(p.out.w.data) + unit, p.out.w.row_stride,
                                                 p.out.n, hidden - unit);
    ptx::cp_async_commit();
  };
  const auto bias_of = [&](int chunk) {  // of this thread's weight row
    const int w = static_cast<int>(threadIdx.x) / kChunk,
              unit = chunk * kChunk + static_cast<int>(threadIdx.x) % kChunk;
    return w < kWeights && unit < hidden ? bias_at<T>(Tile::kGated && w == 0 ? g.gate_bias : g.bias, unit) : 0.0f;
  };
  copy_rows<T, Wide, Tile::kTokens, Tile::kThreads>(shared, static_cast<const T*>(g.a) + first_token * g.lda, g.lda,
                                                    g.m - first_token, g.k);
  copy_weights(0);
  float next_bias = bias_of(0);

  float y[kMmaM][kWidth / 8][4];
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = 8 * n + lane % 4 * 2 + e;
      const float b = column < p.out.n ? bias_at<T>(p.out.bias, column) * p.f.start_scale : 0.0f;
#pragma unroll
      for (int m = 0; m < kMmaM; ++m) y[m][n][e] = y[m][n][e + 2] = b;
    }
  }

#pragma unroll 1
  for (int chunk = 0; chunk < chunks; ++chunk) {
    float* const bias = bias_table + chunk % 2 * (kWeights * kChunk);
    if (static_cast<int>(threadIdx.x) < kWeights * kChunk) bias[threadIdx.x] = next_bias;
    ptx::cp_async_wait<0>();
    __syncthreads();  // and every warp is through the stage that is filled next
    if (chunk + 1 < chunks) {
      copy_weights(chunk + 1);
      next_bias = bias_of(chunk + 1);
    }
    const std::uint32_t stage = shared + Tile::kOffsetStages + chunk % 2 * Tile::kStageBytes;

    float s[kWeights][kMmaM][kChunk / 8][4];
#pragma unroll
    for (int w = 0; w < kWeights; ++w) {
#pragma unroll
      for (int n = 0; n < kChunk / 8; ++n) {
        const float2 b = *reinterpret_cast<const float2*>(bias + w * kChunk + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int m = 0; m < kMmaM; ++m) {
          s[w][m][n][0] = s[w][m][n][2] = b.x;
          s[w][m][n][1] = s[w][m][n][3] = b.y;
        }
      }
    }
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      std::uint32_t a[kMmaM][4];
#pragma unroll
      for (int m = 0; m < kMmaM; ++m) {
        const unsigned row = (warp * kMmaM + m) * 16 + lane % 16;
        ptx::ldmatrix_x4(a[m], shared + Wide::at(row, 2 * step + lane / 16));
      }
#pragma unroll
      for (int w = 0; w < kWeights; ++w) {
        multiply<T, Wide, kMmaM, kChunk>(s[w], a, stage + w * Tile::kUpBytes, step);
      }
    }

    std::uint32_t h[kMmaM * kChunk / 4];
    activate_values<T, Tile::kGated, kMmaM * kChunk / 2>(p.f, &s[0][0][0][0]);
    pack_pairs<T, kMmaM * kChunk / 4>(&s[0][0][0][0], h);
    const int units = hidden - chunk * kChunk;
    if (units < kChunk) {
#pragma unroll
      for (int m = 0; m < kMmaM; ++m) mask_pairs<kChunk / 4>(h + m * (kChunk / 4), units);
    }
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
      std::uint32_t a[kMmaM][4];
#pragma unroll
      for (int m = 0; m < kMmaM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = h[m * (kChunk / 4) + 4 * step + i];
      }
      multiply<T, Narrow, kMmaM, kWidth>(y, a, stage + kWeights * Tile::kUpBytes, step);
    }
  }

  // A warp's outputs go where its inputs were, then out in whole chunks.
  const float scale = p.f.end_scale;
  __syncwarp();  // every lane has read its inputs
#pragma unroll
  for (int m = 0; m < kMmaM; ++m) {
    const unsigned row = (warp * kMmaM + m) * 16 + lane / 4;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t word = pack<T>(y[m][n][2 * half] * scale, y[m][n][2 * half + 1] * scale);
        *reinterpret_cast<std::uint32_t*>(shared_bytes + Wide::at(row + 8 * half, n) + lane % 4 * 4) = word;
      }
    }
  }
  __syncwarp();
  T* const to = static_cast<T*>(p.out.out);
  for (int i = lane; i < kMmaM * 16 * static_cast<int>(Wide::kChunks); i += 32) {
    const unsigned row = warp * kMmaM * 16 + i / Wide::kChunks, chunk = i % Wide::kChunks;
    const std::int64_t token = first_token + row;
    const int columns = p.out.n - static_cast<int>(chunk * 8);
    if (token >= g.m || columns <= 0) continue;
    const unsigned char* from = shared_bytes + Wide::at(row, chunk);
    T* at = to + token * p.out.ldo + chunk * 8;
    if (columns >= 8) {
      *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int e = 0; e < columns; ++e) at[e] = reinterpret_cast<const T*>(from)[e];
    }
  }
}

template <class T, bool kGated, int kWidth>
Status launch_portable(const NarrowCall& call, cudaStream_t stream) {
  using Tile = PortableTile<kWidth, kGated>;
  const PortableParams p{call.gemms.hidden, call.gemms.out, call.activation};
  Launch how;
  how.grid = static_cast<unsigned>((p.hidden.m + Tile::kTokens - 1) / Tile::kTokens);
  how.block = Tile::kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  return launch<portable<T, Tile>>(kPortableName, how, Tile::kShared, p);
}

template <class T, bool kGated>
Status launch_any_portable(const NarrowCall& call, cudaStream_t stream) {
  switch (padded_width(call.gemms.hidden.k, call.gemms.out.n)) {
    case 64: return launch_portable<T, kGated, 64>(call, stream);
    case 128: return launch_portable<T, kGated, 128>(call, stream);
    case 192: return launch_portable<T, kGated, 192>(call, stream);
    default: return launch_portable<T, kGated, 256>(call, stream);
  }
}

}  // namespace fusedmlp::cuda::narrow
