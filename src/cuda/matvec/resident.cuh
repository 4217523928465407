// The form for small MLPs: a warp asks for all of its weights of a product before it uses the first. Those of the
// second product are on their way while the blocks meet.
#pragma once

#include "cuda/matvec/lanes.cuh"

namespace fusedmlp::cuda::matvec {

template <class T, bool kGated, int kForm>
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
  const auto up_k = [&](int chunk) { return (up_part + args.up.splits * chunk) * kChunk + lane * 8; };
  const auto down_k = [&](int chunk) { return (down_part + args.down.splits * chunk) * kChunk + lane * 8; };

  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  std::uint32_t before = 0;
  if (threadIdx.x == 0) before = ptx::barrier_state(args.barrier);

  uint4 w[kUpJobs][kRows][kUpChunks], x[kUpChunks];
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
  for (int c = 0; c < kUpChunks; ++c) x[c] = load_elements<false>(hidden.a, up_k(c), hidden.k);
  {
    constexpr int kSums = kUpJobs * kRows;
    float own[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      float2 sum{};
#pragma unroll
      for (int c = 0; c < kUpChunks; ++c) {
        multiply_add<T>(x[c], w[i / kRows][i % kRows][c], sum);
      }
      own[i] = sum.x + sum.y;
    }
    const float sum = reduce(own, lane);
    const int i = lane / (32 / kSums), row = up_group + i / kRows * args.up.groups;
    if (lane % (32 / kSums) == 0 && row < args.up.rows) {
      sums[(up_part * args.up.rows + row) * kRows + i % kRows] = sum;
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

  uint4 h[kDownChunks];
#pragma unroll
  for (int c = 0; c < kDownChunks; ++c) h[c] = load_elements<false>(out.a, down_k(c), out.k);
  {
    constexpr int kSums = kDownJobs;
    float own[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      float2 sum{};
#pragma unroll
      for (int c = 0; c < kDownChunks; ++c) multiply_add<T>(h[c], v[i][c], sum);
      own[i] = sum.x + sum.y;
    }
    const float sum = reduce(own, lane);
    const int row = down_group + lane / (32 / kSums) * args.down.groups;
    if (lane % (32 / kSums) == 0 && row < args.down.rows) sums[down_part * args.down.rows + row] = sum;
  }
  __syncthreads();
  write_outputs<T>(args, sums, down_first);
}

}  // namespace fusedmlp::cuda::matvec
