// The form for any size: a lane has two buffers of weights and fills one while it uses the other; the first two of
// the second product are on their way while the blocks meet. Activations lie in shared memory.
#pragma once

#include <algorithm>

#include "cuda/matvec/lanes.cuh"

namespace fusedmlp::cuda::matvec {

// All tokens' rows to shared memory, zeros up to a whole chunk.
template <class T>
__device__ __forceinline__ void stage(const Gemm& g, int pitch, uint4* to) {
  const int tokens = static_cast<int>(g.m);
  for (int t = 0; t < tokens; ++t) {
    const T* row = static_cast<const T*>(g.a) + t * g.lda;
    for (int i = static_cast<int>(threadIdx.x); i < pitch; i += static_cast<int>(blockDim.x)) {
      to[t * pitch + i] = load_elements<false>(row, i * 8, g.k);
    }
  }
}

// One product: a warp's jobs, a step of kChunks chunks of each row at a time.
template <class T, int kTokens, bool kTwo>
struct Stream {
  static constexpr int kRows = kTwo ? 2 : 1;
  static constexpr int kChunks = kStepLoads / kRows;
  using Buffer = uint4[kStepLoads];
  struct Position {
    int row, step;
  };

  const Gemm& gemm;
  const Phase& phase;
  const int first, part, lane;
  Position loading, using_;
  float2 own[kRows * kTokens] = {};

  __device__ __forceinline__ Stream(const Gemm& g, const Phase& p, int warp, int the_lane)
      : gemm(g),
        phase(p),
        first(static_cast<int>(blockIdx.x) * p.rows),
        part(warp % p.splits),
        lane(the_lane),
        loading{warp / p.splits, 0},
        using_(loading) {}

  __device__ __forceinline__ int chunk(const Position& at, int i) const {
    return part + phase.splits * (at.step * kChunks + i);
  }
  __device__ __forceinline__ void advance(Position& at) const {
    if (++at.step == phase.steps) {
      at.step = 0;
      at.row += phase.groups;
    }
  }

  // The next step's weights; zeros beyond the end.
  __device__ __forceinline__ void load(Buffer& to) {
    const bool there = loading.row < phase.rows && first + loading.row < gemm.n;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T* from = row_of<T>(kTwo && r == 0 ? gemm.gate : gemm.w, first + loading.row);
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        to[r * kChunks + i] =
            there ? load_elements<true>(from, chunk(loading, i) * kChunk + lane * 8, gemm.k) : uint4{};
      }
    }
    advance(loading);
  }

  __device__ __forceinline__ void multiply(const Buffer& w, const uint4* x, int pitch, float* sums) {
    const int tokens = static_cast<int>(gemm.m);
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int c = chunk(using_, i);
      if (c * kChunk >= gemm.k) break;
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (t > 0 && t >= tokens) break;
        const uint4 a = x[t * pitch + c * (kChunk / 8) + lane];
#pragma unroll
        for (int r = 0; r < kRows; ++r) multiply_add<T>(a, w[r * kChunks + i], own[r * kTokens + t]);
      }
    }
    if (using_.step == phase.steps - 1) {
      constexpr int kSums = kRows * kTokens;
      float values[kSums];
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        values[i] = own[i].x + own[i].y;
        own[i] = {};
      }
      const float sum = reduce(values, lane);
      const int i = lane / (32 / kSums), token = i % kTokens;
      if (lane % (32 / kSums) == 0 && using_.row < phase.rows && token < tokens) {
        sums[((part * phase.rows + using_.row) * kRows + i / kTokens) * tokens + token] = sum;
      }
    }
    advance(using_);
  }

  // Every step; the first two are in `even` and `odd` already.
  __device__ __forceinline__ void run(Buffer& even, Buffer& odd, const uint4* x, int pitch, float* sums) {
    const int jobs = (phase.rows + phase.groups - 1) / phase.groups;
    for (int left = jobs * phase.steps; left > 0; left -= 2) {
      multiply(even, x, pitch, sums);
      if (left > 2) load(even);
      if (left > 1) multiply(odd, x, pitch, sums);
      if (left > 3) load(odd);
    }
  }
};

template <class T, int kTokens, bool kGated>
__global__ void __launch_bounds__(kStreamingThreads, 1) streaming_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 staged[];
  const Gemm& hidden = args.products.hidden;
  const Gemm& out = args.products.out;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int tokens = static_cast<int>(hidden.m);
  const int up_pitch = (hidden.k + kChunk - 1) / kChunk * (kChunk / 8);
  const int down_pitch = (out.k + kChunk - 1) / kChunk * (kChunk / 8);
  float* sums = reinterpret_cast<float*>(staged + tokens * max(up_pitch, down_pitch));

  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  std::uint32_t before = 0;
  if (threadIdx.x == 0) before = ptx::barrier_state(args.barrier);
  uint4 even[kStepLoads], odd[kStepLoads];
  {
    Stream<T, kTokens, kGated> up(hidden, args.up, warp, lane);
    up.load(even);
    up.load(odd);
    stage<T>(hidden, up_pitch, staged);
    __syncthreads();
    up.run(even, odd, staged, up_pitch, sums);
  }
  Stream<T, kTokens, false> down(out, args.down, warp, lane);
  down.load(even);
  down.load(odd);
  __syncthreads();
  write_hidden<T, kGated>(args, sums, static_cast<int>(blockIdx.x) * args.up.rows);
  meet(args, before);
  stage<T>(out, down_pitch, staged);
  __syncthreads();
  down.run(even, odd, staged, down_pitch, sums);
  __syncthreads();
  write_outputs<T>(args, sums, static_cast<int>(blockIdx.x) * args.down.rows);
}

}  // namespace fusedmlp::cuda::matvec
