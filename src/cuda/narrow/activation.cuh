// Activations in registers with one special-function instruction an element, or two.
//
// Every sigmoid-shaped activation is f(x) = x s(x) with s(-x) = 1 - s(x), so with a = |x| and q(a) = log2 s(-a), a
// smooth function that a low polynomial follows,
//   2 f(x) = x + a (1 - 2^(q(a) + 1)),
// which needs no clamp (the polynomials fall without bound) and gives IEEE's answer for infinities and NaN. The
// factor 2 is taken back where it costs least. The logistic function is an exponential and a reciprocal: beside
// products a special-function instruction costs less than the multiply-adds that it saves.
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

// Values of the hidden, kCount of them, in place of accumulators of the first product: of the only weights, or of
// gate and, `behind` them, of up. bf16 has the range to take the factor 2 back at the very end (f.end_scale); fp16
// does it here.
template <class T, bool kGated, int kCount, Form kForm>
__device__ __forceinline__ void activate_values(const FastActivation& f, float* s, int behind = kCount) {
  constexpr bool kHalf = std::is_same_v<T, f16>;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if constexpr (kGated) {
      s[i] = gated<kForm, kHalf>(f, s[i], s[behind + i]);
    } else {
      s[i] = activate<kForm, kHalf>(f, s[i]);
    }
    if (kHalf && kDegree < kForm, kHalf >> 0) s[i] *= 0.5f;
  }
}

// The same with one branch for all values.
template <class T, bool kGated, int kCount>
__device__ __forceinline__ void activate_values(const FastActivation& f, float* s, int behind = kCount) {
  switch (f.form) {
    case Form::identity: return activate_values<T, kGated, kCount, Form::identity>(f, s, behind);
    case Form::relu: return activate_values<T, kGated, kCount, Form::relu>(f, s, behind);
    case Form::relu2: return activate_values<T, kGated, kCount, Form::relu2>(f, s, behind);
    case Form::sigmoid: return activate_values<T, kGated, kCount, Form::sigmoid>(f, s, behind);
    case Form::normal: return activate_values<T, kGated, kCount, Form::normal>(f, s, behind);
    case Form::tanh_normal: return activate_values<T, kGated, kCount, Form::tanh_normal>(f, s, behind);
    case Form::logistic: return activate_values<T, kGated, kCount, Form::logistic>(f, s, behind);
    case Form::clamped:
      if constexpr (kGated) return activate_values<T, kGated, kCount, Form::clamped>(f, s, behind);
  }
}

// Neighbours as pairs, operands of the second product.
template <class T, int kPairs>
__device__ __forceinline__ void pack_pairs(const float* values, std::uint32_t* h) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) h[i] = pack<T>(values[2 * i], values[2 * i + 1]);
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
