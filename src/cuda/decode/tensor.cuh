// Two tokens and more on the tensor cores: tokens are the rows of a 16 x 8 product, weight rows its columns.
#pragma once

#include "cuda/decode/product.cuh"
#include "cuda/ptx/mma.cuh"

namespace fusedmlp::cuda::decode {

// sums[job][matrix][tile of 16 tokens][of a lane] += inputs times a chunk of weights; `low` and `high` are those of
// tokens lane / 4 and lane / 4 + 8 of tile i.
//
// A product of 16 k wants of lane (row l / 4, t = l % 4) the elements 2t, 2t + 1, 2t + 8 and 2t + 9 of k. Any order
// of k will do that both operands share: here a lane has the eight elements of its 16-byte load, the first four for
// one product and the last four for the next, so that weights need not pass through shared memory.
template <class T, class W, int kTiles>
__device__ __forceinline__ void multiply(float (&sums)[W::kJobs][W::kMatrices][kTiles][4], int i, const uint4& low,
                                         const uint4& high, const W& weights, int chunk) {
#pragma unroll
  for (int j = 0; j < W::kJobs; ++j) {
#pragma unroll
    for (int r = 0; r < W::kMatrices; ++r) {
      const uint4& w = weights.w[j][r][chunk];
      ptx::mma_m16n8k16<T>(sums[j][r][i], {low.x, high.x, low.y, high.y}, w.x, w.y);
      ptx::mma_m16n8k16<T>(sums[j][r][i], {low.z, high.z, low.w, high.w}, w.z, w.w);
    }
  }
}

// A warp's sums to where finish() looks for them.
template <class W, int kTiles>
__device__ __forceinline__ void store_sums(const Shared& at, const float (&sums)[W::kJobs][W::kMatrices][kTiles][4]) {
  const int row = W::lane() / 4, t = W::lane() % 4;
#pragma unroll
  for (int j = 0; j < W::kJobs; ++j) {
#pragma unroll
    for (int r = 0; r < W::kMatrices; ++r) {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int token = i * 16 + row + e / 2 * 8;
          at.sum(W::part(), r, W::job_row(j) + 2 * t + e % 2)[token] = sums[j][r][i][e];
        }
      }
    }
  }
}

// kTiles: of 16 tokens.
template <class T, int kForm, bool kWhole, int kTiles>
__global__ void __maxnreg__(registers_of(kForm, kTiles, kWhole)) tensor_kernel(const __grid_constant__ Args args) {
  using W = Weights<T, kForm, kWhole>;
  extern __shared__ __align__(128) float shared[];
  W weights(args);
  const int row = W::lane() / 4;
  // Tokens beyond the last are the last again; their outputs are not written.
  const T* tokens[kTiles][2];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = min(i * 16 + half * 8 + row, args.m - 1);
      tokens[i][half] = static_cast<const T*>(args.a) + token * args.a_stride;
    }
  }
  Biases<T, W> biases;
  begin(args, weights, biases);
  float sums[W::kJobs][W::kMatrices][kTiles][4] = {};
  const int steps = kWhole ? 1 : args.steps;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int c = 0; c < W::kChunks; ++c) {
      const int k = weights.k(step, c);
      uint4 low[kTiles], high[kTiles];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        low[i] = load_input<!kWhole>(tokens[i][0] + k, weights.has(k));
        high[i] = load_input<!kWhole>(tokens[i][1] + k, weights.has(k));
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) multiply<T>(sums, i, low[i], high[i], weights, c);
      if constexpr (!kWhole) weights.load(step + 1, c, step + 1 < steps);
    }
  }
  const Shared at = shared_parts<W>(shared, kTiles * 16 + 1);
  biases.store(at);
  store_sums<W>(at, sums);
  finish<T, W>(args, at);
}

}  // namespace fusedmlp::cuda::decode
