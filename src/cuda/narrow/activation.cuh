// Activations in registers with one special-function instruction an element.
//
// Every sigmoid-shaped activation is f(x) = x s(x) with s(-x) = 1 - s(x), so with a = |x| and q(a) = log2 s(-a), a
// smooth function that a low polynomial follows,
//   2 f(x) = x + a (1 - 2^(q(a) + 1)),
// which needs no clamp (the polynomials fall without bound) and gives IEEE's answer for infinities and NaN. The
// factor 2 is taken back where it costs least.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/activations.cuh"
#include "cuda/common/numeric.cuh"
#include "cuda/narrow/activation.h"

namespace fusedmlp::cuda::narrow {

// 2 x s(x), s(-a) = 2^q(a); f.q holds the coefficients of q + 1.
template <int kTop>
__device__ __forceinline__ float twice_sigmoid_shaped(const FastActivation& f, float x) {
  const float a = fabsf(x);
  float q = f.q[kTop];
#pragma unroll
  for (int i = kTop - 1; i >= 0; --i) q = fmaf(q, a, f.q[i]);
  return fmaf(a, 1.0f - exp2_approximate(q), x);
}

// f(x), or 2 f(x) where the form has a polynomial; for a gated MLP the same times up.
template <Form kForm, bool kHalf>
__device__ __forceinline__ float activate(const FastActivation& f, float x) {
  constexpr int kTop = kDegree<kForm, kHalf>;
  if constexpr (kForm == Form::relu) return x < 0.0f ? 0.0f : x;
  if constexpr (kForm == Form::relu2) return x < 0.0f ? 0.0f : x * x;
  if constexpr (kForm == Form::sigmoid) return reciprocal_approximate(1.0f + exp2_approximate(x * f.q[0]));
  if constexpr (kTop > 0) return twice_sigmoid_shaped<kTop>(f, x);
  if constexpr (kForm >= Form::logistic) return x * reciprocal_approximate(1.0f + exp2_approximate(x * f.q[0]));
  return x;
}

template <Form kForm, bool kHalf>
__device__ __forceinline__ float gated(const FastActivation& f, float gate, float up) {
  if constexpr (kForm == Form::clamped) {
    const float g = gate > f.limit ? f.limit : gate;  // comparisons keep NaN
    const float u = up > f.limit ? f.limit : (up < -f.limit ? -f.limit : up);
    const float v = activate<kForm, kHalf>(f, g);
    return fmaf(v, u, v);
  }
  return activate<kForm, kHalf>(f, gate) * up;
}

// Pairs of the hidden, as operands of the second product, from accumulators of the first one: of the only weights, or
// of gate and up. bf16 has the range to take the factor 2 back at the very end (f.end_scale); fp16 does it here.
template <class T, bool kGated, Form kForm, int kPairs>
__device__ __forceinline__ void activate_pairs(const FastActivation& f, const float* first, const float* up,
                                               std::uint32_t (&h)[kPairs]) {
  constexpr bool kHalf = std::is_same_v<T, f16>;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    float v[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if constexpr (kGated) {
        v[e] = gated<kForm, kHalf>(f, first[2 * i + e], up[2 * i + e]);
      } else {
        v[e] = activate<kForm, kHalf>(f, first[2 * i + e]);
      }
      if (kHalf && kDegree < kForm, kHalf >> 0) v[e] *= 0.5f;
    }
    h[i] = pack<T>(v[0], v[1]);
  }
}

// The same with one branch for all pairs.
template <class T, bool kGated, int kPairs>
__device__ __forceinline__ void activate_pairs(const FastActivation& f, const float* first, const float* up,
                                               std::uint32_t (&h)[kPairs]) {
  switch (f.form) {
    case Form::identity: return activate_pairs<T, kGated, Form::identity>(f, first, up, h);
    case Form::relu: return activate_pairs<T, kGated, Form::relu>(f, first, up, h);
    case Form::relu2: return activate_pairs<T, kGated, Form::relu2>(f, first, up, h);
    case Form::sigmoid: return activate_pairs<T, kGated, Form::sigmoid>(f, first, up, h);
    case Form::normal: return activate_pairs<T, kGated, Form::normal>(f, first, up, h);
    case Form::tanh_normal: return activate_pairs<T, kGated, Form::tanh_normal>(f, first, up, h);
    case Form::logistic: return activate_pairs<T, kGated, Form::logistic>(f, first, up, h);
    case Form::clamped:
      if constexpr (kGated) return activate_pairs<T, kGated, Form::clamped>(f, first, up, h);
  }
}

// Zeros for what lies past the hidden's end: it is no part of the sum, whatever infinities met the weights' zeros
// there. `units` are left; a thread's pairs are those of an accumulator.
template <int kPairs>
__device__ __forceinline__ void mask_pairs(std::uint32_t* h, int units) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int unit = i / 2 * 8 + static_cast<int>(threadIdx.x % 4) * 2;
    if (unit >= units) h[i] = 0;
    if (unit + 1 >= units) h[i] &= 0xffff;
  }
}

}  // namespace fusedmlp::cuda::narrow
