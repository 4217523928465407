// The form for small MLPs: a warp asks for all of its weights of a product before it uses the first. Those of the
// second product are on their way while the blocks meet.
#pragma once

#include "cuda/matvec/lanes.cuh"

namespace fusedmlp::cuda::matvec {

template <class T, int kTokens, bool kGated, int kForm>
__global__ void __launch_bounds__(kResident[kForm].threads, 1) resident_kernel(const __grid_constant__ Args args) {
  constexpr Resident kShape = kResident[kForm];
  constexpr int kRows = kGated ? 2 : 1;
  constexpr int kUpChunks = kShape.up_chunks, kUpJobs = kShape.up_jobs;
  constexpr int kDownChunks = kShape.down_chunks, kDownJobs = kShape.down_jobs;
  extern __shared__ float sums[];
  const Gemm& hidden = args.products.hidden;
  const Gemm& out = args.products.out;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int up_part = warp % args.up.splits, up_group = warp / args.up.splits;
  const int down_part = warp % args.down.splits, down_group = warp / args.down.splits;
  const int up_first = static_cast<int>(blockIdx.x) * args.up.rows;
  const int down_first = static_cast<int>(blockIdx.x) * args.down.rows;
  const int tokens = static_cast<int>(hidden.m);
  const auto up_k = [&](int chunk) { return (up_part + args.up.splits * chunk) * kChunk + lane * 8; };
  const auto down_k = [&](int chunk) { return (down_part + args.down.splits * chunk) * kChunk + lane * 8; };

  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  std::uint32_t before = 0;
  if (threadIdx.x == 0) before = ptx::barrier_state(args.barrier);

  uint4 w[kUpJobs][kRows][kUpChunks], x[kTokens][kUpChunks];
#pragma unroll
  for (int j = 0; j < kUpJobs; ++j) {
    const int row = up_group + j * args.up.groups;
    const bool there = row < args.up.rows && up_first + row < hidden.n;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T* from = row_of<T>(kGated && r == 0 ? hidden.gate : hidden.w, up_first + row);
#pragma unroll
      for (int c = 0; c < kUpChunks; ++c) {
        w[j][r][c] = there ? load_elements<true>(from, up_k(c), hidden.k) : uint4{};
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
#pragma unroll
    for (int c = 0; c < kUpChunks; ++c) {
      x[t][c] = t < tokens
                    ? load_elements<false>(static_cast<const T*>(hidden.a) + t * hidden.lda, up_k(c), hidden.k)
                    : uint4{};
    }
  }
  {
    constexpr int kSums = kUpJobs * kRows * kTokens;
    float own[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      float2 sum{};
#pragma unroll
      for (int c = 0; c < kUpChunks; ++c) {
        multiply_add<T>(x[i % kTokens][c], w[i / (kTokens * kRows)][i / kTokens % kRows][c], sum);
      }
      own[i] = sum.x + sum.y;
    }
    const float sum = reduce(own, lane);
    const int i = lane / (32 / kSums), row = up_group + i / (kTokens * kRows) * args.up.groups;
    if (lane % (32 / kSums) == 0 && row < args.up.rows && i % kTokens < tokens) {
      sums[((up_part * args.up.rows + row) * kRows + i / kTokens % kRows) * tokens + i % kTokens] = sum;
    }
  }

  uint4 v[kDownJobs][kDownChunks];
#pragma unroll
  for (int j = 0; j < kDownJobs; ++j) {
    const int row = down_group + j * args.down.groups;
    const bool there = row < args.down.rows && down_first + row < out.n;
#pragma unroll
    for (int c = 0; c < kDownChunks; ++c) {
      v[j][c] = there ? load_elements<true>(row_of<T>(out.w, down_first + row), down_k(c), out.k) : uint4{};
    }
  }
  __syncthreads();
  write_hidden<T, kGated>(args, sums, up_first);
  meet(args, before);

  uint4 h[kTokens][kDownChunks];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
#pragma unroll
    for (int c = 0; c < kDownChunks; ++c) {
      h[t][c] = t < tokens ? load_elements<false>(static_cast<const T*>(out.a) + t * out.lda, down_k(c), out.k)
                           : uint4{};
    }
  }
  {
    constexpr int kSums = kDownJobs * kTokens;
    float own[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      float2 sum{};
#pragma unroll
      for (int c = 0; c < kDownChunks; ++c) multiply_add<T>(h[i % kTokens][c], v[i / kTokens][c], sum);
      own[i] = sum.x + sum.y;
    }
    const float sum = reduce(own, lane);
    const int i = lane / (32 / kSums), row = down_group + i / kTokens * args.down.groups;
    if (lane % (32 / kSums) == 0 && row < args.down.rows && i % kTokens < tokens) {
      sums[(down_part * args.down.rows + row) * tokens + i % kTokens] = sum;
    }
  }
  __syncthreads();
  write_outputs<T>(args, sums, down_first);
}

}  // namespace fusedmlp::cuda::matvec
