// Activations in the epilogue's registers.
#pragma once

#include <cuda_fp16.h>

#include <type_traits>

#include "cuda/common/activations.cuh"
#include "cuda/common/fast_activation.h"

namespace fusedmlp::cuda {

// 1 / (1 + 2^z)
__device__ inline float logistic2(float z) { return reciprocal_approximate(1.0f + exp2_approximate(z)); }

// ActivationShape::normal of x = 2 h, kDegree that of `p`. The top coefficient is negative: no clamp.
template <int kDegree>
__device__ inline float normal_of_half(const FastActivation& f, float h) {
  const float a = fabsf(h);
  float q = f.p[kDegree];
#pragma unroll
  for (int i = kDegree - 1; i >= 0; --i) q = fmaf(q, a, f.p[i]);
  return fmaf(a, 1.0f - exp2_approximate(q), h);
}

// f(x), and for a gated MLP f(x) * up. Coefficients: how many of `p` are used by ActivationShape::logistic, and the
// degree of ActivationShape::normal.
template <ActivationShape kShape, int kCoefficients>
__device__ inline float activate(const FastActivation& f, float x) {
  if constexpr (kShape == ActivationShape::relu) return x < 0.0f ? 0.0f : x;
  if constexpr (kShape == ActivationShape::relu2) return x < 0.0f ? 0.0f : x * x;
  if constexpr (kShape == ActivationShape::normal) return normal_of_half<kCoefficients>(f, 0.5f * x);
  if constexpr (kShape == ActivationShape::sigmoid) return logistic2(x * f.p[0]);
  if constexpr (kShape == ActivationShape::logistic) {
    const float t = fminf(x * x, 36.0f);  // from |x| = 6 on Phi(-|x|) < 1e-9, and the fit no longer holds
    float p = f.p[kCoefficients - 1];
#pragma unroll
    for (int i = kCoefficients - 2; i >= 0; --i) p = fmaf(p, t, f.p[i]);
    return x * logistic2(x * p);
  }
  return x;
}

template <ActivationShape kShape, int kCoefficients>
__device__ inline float gated(const FastActivation& f, float gate, float up) {
  if constexpr (kShape == ActivationShape::swiglu_oai) {
    const float g = gate > f.limit ? f.limit : gate;  // comparisons keep NaN
    const float u = up > f.limit ? f.limit : (up < -f.limit ? -f.limit : up);
    return g * logistic2(g * f.p[0]) * (u + 1.0f);
  }
  return activate<kShape, kCoefficients>(f, gate) * up;
}

// body(shape), a std::integral_constant: one branch for many elements. swiglu_oai is gated alone, normal never.
template <bool kGated, class Body>
__device__ __forceinline__ void with_shape(ActivationShape shape, const Body& body) {
  switch (shape) {
    case ActivationShape::identity: return body(std::integral_constant<ActivationShape, ActivationShape::identity>());
    case ActivationShape::relu: return body(std::integral_constant<ActivationShape, ActivationShape::relu>());
    case ActivationShape::relu2: return body(std::integral_constant<ActivationShape, ActivationShape::relu2>());
    case ActivationShape::sigmoid: return body(std::integral_constant<ActivationShape, ActivationShape::sigmoid>());
    case ActivationShape::logistic: return body(std::integral_constant<ActivationShape, ActivationShape::logistic>());
    case ActivationShape::normal:
      if constexpr (!kGated) return body(std::integral_constant<ActivationShape, ActivationShape::normal>());
      break;
    case ActivationShape::swiglu_oai:
      if constexpr (kGated) return body(std::integral_constant<ActivationShape, ActivationShape::swiglu_oai>());
  }
}

// Coefficients of FastActivation::p that a storage type uses.
template <class T>
inline constexpr int kCoefficients = std::is_same_v<T, __half> ? 5 : 3;

}  // namespace fusedmlp::cuda
