// One token on the fp32 lanes.
#pragma once

#include <cstring>

#include "cuda/decode/product.cuh"

namespace fusedmlp::cuda::decode {

// The two 16-bit elements of a word.
template <class T>
__device__ __forceinline__ float2 unpack(std::uint32_t word);
template <>
__device__ __forceinline__ float2 unpack<bf16>(std::uint32_t word) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}
template <>
__device__ __forceinline__ float2 unpack<f16>(std::uint32_t word) {
  __half2 pair;
  std::memcpy(&pair, &word, sizeof pair);
  return __half22float2(pair);
}

// Adds the products of eight elements; even and odd ones apart, which halves the chain.
template <class T>
__device__ __forceinline__ void multiply_add(const uint4& x, const uint4& w, float2& sum) {
  const std::uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 a = unpack<T>(xs[i]), b = unpack<T>(ws[i]);
    sum.x = fmaf(a.x, b.x, sum.x);
    sum.y = fmaf(a.y, b.y, sum.y);
  }
}

// Sums kCount (a power of two) values over the warp at once; lane l with l % (32 / kCount) == 0 gets the sum of value
// l / (32 / kCount).
template <int kCount>
__device__ __forceinline__ float reduce(float (&values)[kCount], int lane) {
  int distance = 16;
#pragma unroll
  for (int n = kCount; n > 1; n /= 2, distance /= 2) {
    const bool upper = (lane & distance) != 0;
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      const float keep = upper ? values[i + n / 2] : values[i], give = upper ? values[i] : values[i + n / 2];
      values[i] = keep + __shfl_xor_sync(0xffffffffu, give, distance);
    }
  }
#pragma unroll
  for (int d = 16 / kCount; d > 0; d /= 2) values[0] += __shfl_xor_sync(0xffffffffu, values[0], d);
  return values[0];
}

template <class T, int kForm, bool kWhole>
__global__ void __maxnreg__(registers_of(kForm, 1, kWhole)) lanes_kernel(const __grid_constant__ Args args) {
  using W = Weights<T, kForm, kWhole>;
  constexpr int kSums = W::kJobs * W::kMatrices;
  constexpr int kPadded = kSums <= 2 ? 2 : kSums <= 4 ? 4 : 8;
  static_assert(kSums <= 8);
  extern __shared__ __align__(128) float shared[];
  W weights(args);
  Biases<T, W> biases;
  begin(args, weights, biases);
  float2 sums[kSums] = {};
  const int steps = kWhole ? 1 : args.steps;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    uint4 x[W::kChunks];
#pragma unroll
    for (int c = 0; c < W::kChunks; ++c) {
      const int k = weights.k(step, c);
      x[c] = load_token<!kWhole>(static_cast<const T*>(args.a) + k, weights.has(k));
    }
#pragma unroll
    for (int c = 0; c < W::kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        multiply_add<T>(x[c], weights.w[i / W::kMatrices][i % W::kMatrices][c], sums[i]);
      }
      if constexpr (!kWhole) weights.load(step + 1, c, step + 1 < steps);
    }
  }
  const Shared at = shared_parts<W>(shared, 1);
  biases.store(at);
  float own[kPadded] = {};
#pragma unroll
  for (int i = 0; i < kSums; ++i) own[i] = sums[i].x + sums[i].y;
  const int lane = W::lane();
  const float sum = reduce(own, lane);
  constexpr int kLanes = 32 / kPadded;
  if (const int i = lane / kLanes; lane % kLanes == 0 && i < kSums) {
    *at.sum(W::part(), i % W::kMatrices, W::job_row(i / W::kMatrices)) = sum;
  }
  finish<T, W>(args, at);
}

}  // namespace fusedmlp::cuda::decode
