// What both kernels of cuda.matvec do with a warp's lanes, and the arguments they share.
#pragma once

#include <cstring>

#include "cuda/common/activations.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/numeric.cuh"
#include "cuda/matvec/matvec.h"
#include "cuda/ptx/grid_barrier.cuh"
#include "cuda/ptx/grid_dependency.cuh"

namespace fusedmlp::cuda::matvec {

struct Args {
  TwoGemms products;
  ActivationArgs activation;
  Phase up, down;
  std::uint32_t* barrier;
};

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

// Eight elements from `k` on of a row of `size`, as zeros beyond its end. kWeights: read once and by nobody else; the
// others past L1, whose lines may be older than what another block has written.
template <bool kWeights>
__device__ __forceinline__ uint4 load_elements(const void* row, int k, int size) {
  const auto* from = static_cast<const std::uint16_t*>(row) + k;
  uint4 v{};
  if (k + 8 <= size) {
    if constexpr (kWeights) {
      asm volatile("ld.global.L1::no_allocate.L2::128B.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "l"(from)
                   : "memory");
    } else {
      asm volatile("ld.global.cg.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "l"(from)
                   : "memory");
    }
  } else if (k < size) {  // the row ends within these eight
    std::uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (k + i < size) words[i / 2] |= static_cast<std::uint32_t>(__ldcg(from + i)) << (i % 2 * 16);
    }
    v = {words[0], words[1], words[2], words[3]};
  }
  return v;
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

// The hidden value of `row` from its sums.
template <class T, bool kGated>
__device__ __forceinline__ float finish_hidden(const Args& args, int row, float gate, float up) {
  const Gemm& g = args.products.hidden;
  float hidden = 0;
  with_form(args.activation.form, [&](auto form) {
    const float u = up + bias_at<T>(g.bias, row);
    if constexpr (kGated) {
      hidden = gated<decltype(form)::value>(args.activation, gate + bias_at<T>(g.gate_bias, row), u);
    } else {
      hidden = activate<decltype(form)::value>(args.activation, u);
    }
  });
  return hidden;
}

// Waits until every block has written its part of the hidden. `before`: the barrier's state ahead of that, known to
// thread 0.
__device__ __forceinline__ void meet(const Args& args, std::uint32_t before) {
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::barrier_arrive(args.barrier, static_cast<int>(gridDim.x), blockIdx.x == 0);
    ptx::barrier_wait(args.barrier, before);
  }
  __syncthreads();
}

// Hidden values of the block's rows from the sums in shared memory, [split][row][gate, up][token], to the workspace.
template <class T, bool kGated>
__device__ __forceinline__ void write_hidden(const Args& args, const float* sums, int first) {
  constexpr int kRows = kGated ? 2 : 1;
  const Gemm& g = args.products.hidden;
  const int tokens = static_cast<int>(g.m), rows = args.up.rows;
  for (int i = static_cast<int>(threadIdx.x); i < rows * tokens; i += static_cast<int>(blockDim.x)) {
    const int row = i % rows, token = i / rows;
    if (first + row >= g.n) continue;
    float sum[kRows] = {};
    for (int s = 0; s < args.up.splits; ++s) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) sum[r] += sums[((s * rows + row) * kRows + r) * tokens + token];
    }
    static_cast<T*>(g.out)[token * g.ldo + first + row] =
        from_float<T>(finish_hidden<T, kGated>(args, first + row, sum[0], sum[kRows - 1]));
  }
}

// The same for the outputs: [split][row][token].
template <class T>
__device__ __forceinline__ void write_outputs(const Args& args, const float* sums, int first) {
  const Gemm& g = args.products.out;
  const int tokens = static_cast<int>(g.m), rows = args.down.rows;
  for (int i = static_cast<int>(threadIdx.x); i < rows * tokens; i += static_cast<int>(blockDim.x)) {
    const int row = i % rows, token = i / rows;
    if (first + row >= g.n) continue;
    float sum = bias_at<T>(g.bias, first + row);
    for (int s = 0; s < args.down.splits; ++s) sum += sums[(s * rows + row) * tokens + token];
    static_cast<T*>(g.out)[token * g.ldo + first + row] = from_float<T>(sum);
  }
}

template <class T>
__device__ __forceinline__ const T* row_of(const Weight& weight, int row) {
  return static_cast<const T*>(weight.data) + row * weight.row_stride;
}

}  // namespace fusedmlp::cuda::matvec
