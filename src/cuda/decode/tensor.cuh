// Two tokens and more on the tensor cores: tokens are the rows of a 16 x 8 product, weight rows its columns.
#pragma once

#include "cuda/decode/product.cuh"
#include "cuda/ptx/mma.cuh"

namespace fusedmlp::cuda::decode {

// kTiles: of 16 tokens.
//
// A product of 16 k wants of lane (row l / 4, t = l % 4) the elements 2t, 2t + 1, 2t + 8 and 2t + 9 of k. Any order
// of k will do that both operands share: here a lane has the eight elements of its 16-byte load, the first four for
// one product and the last four for the next, and neither operand passes through shared memory.
template <class T, int kForm, bool kWhole, int kTiles>
__global__ void __maxnreg__(registers_of(kForm, kTiles, kWhole)) tensor_kernel(const __grid_constant__ Args args) {
  using W = Weights<T, kForm, kWhole>;
  extern __shared__ float shared[];
  W weights(args);
  const int row = W::lane() / 4, t = W::lane() % 4;
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
  float sums[W::kJobs][W::kMatrices][kTiles][4] = {};
#pragma unroll 1
  for (int step = 0; step < (kWhole ? 1 : args.steps); ++step) {
    load_step<T>(args, weights, step);
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
      for (int j = 0; j < W::kJobs; ++j) {
#pragma unroll
        for (int r = 0; r < W::kMatrices; ++r) {
          const uint4& w = weights.w[j][r][c];
#pragma unroll
          for (int i = 0; i < kTiles; ++i) {
            ptx::mma_m16n8k16<T>(sums[j][r][i], {low[i].x, high[i].x, low[i].y, high[i].y}, w.x, w.y);
            ptx::mma_m16n8k16<T>(sums[j][r][i], {low[i].z, high[i].z, low[i].w, high[i].w}, w.z, w.w);
          }
        }
      }
    }
  }
  const Shared at = load_biases<T, W>(args, shared, kTiles * 16 + 1);
#pragma unroll
  for (int j = 0; j < W::kJobs; ++j) {
#pragma unroll
    for (int r = 0; r < W::kMatrices; ++r) {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int token = i * 16 + row + e / 2 * 8;
          at.template sum<W::kMatrices>(W::part(), r, W::job_row(j) + 2 * t + e % 2)[token] = sums[j][r][i][e];
        }
      }
    }
  }
  finish<T, W>(args, at);
}

}  // namespace fusedmlp::cuda::decode
