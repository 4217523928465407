// Activations in fp32 from the hardware's approximate exponential and reciprocal, within
//   |f~(x) - f(x)| <= 2^-23 max(|f(x)|, k |x|), k = 2 (relu, relu2, identity: exact)
// of src/core/activation.h; tests/gpu/activation_test.cpp holds them to it over every bf16 and fp16 value and a
// dense fp32 sweep.
#pragma once

#include "core/activation.h"
#include "cuda/common/activations.h"

namespace fusedmlp::cuda {

__device__ __forceinline__ float exp2_approximate(float x) {  // 2 ulp; subnormal results are 0
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float reciprocal_approximate(float x) {  // 1 ulp; 1 / inf is 0
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float sigmoid_approximate(float x) {
  constexpr float kLog2E = 1.44269504f;
  return reciprocal_approximate(1.0f + exp2_approximate(-kLog2E * x));
}

// Phi(x), the normal distribution function, from its tail Phi(-|x|) = exp(-x^2/2) t P(t), t = 1/(1 + 0.26|x|);
// coefficients by scripts/fit_normal_tail.py (relative error 2.5e-8 before rounding).
__device__ __forceinline__ float normal_cdf_approximate(float x) {
  constexpr float kHalfLog2E = 0.72134752f;
  const float d = fmaf(fminf(fabsf(x), 64.0f), 0.26f, 1.0f);  // beyond 64 the tail is 0 whatever t is
  const float rough = reciprocal_approximate(d);
  const float t = fmaf(rough, fmaf(-d, rough, 1.0f), rough);
  float p = 3.050484508e-02f;
  p = fmaf(p, t, -1.528286636e-01f);
  p = fmaf(p, t, 2.514910102e-01f);
  p = fmaf(p, t, -1.509486884e-01f);
  p = fmaf(p, t, 1.609476954e-01f);
  p = fmaf(p, t, 5.102773756e-02f);
  p = fmaf(p, t, 1.030302420e-01f);
  p = fmaf(p, t, 1.030167490e-01f);
  p = fmaf(p, t, 1.037590578e-01f);
  const float tail = exp2_approximate(-kHalfLog2E * x * x) * (t * p);
  return x < 0.0f ? tail : 1.0f - tail;
}

// f(x); of `clamped` only the factor g sigmoid(alpha g) with g = min(x, limit).
template <ActivationForm kForm>
__device__ __forceinline__ float activate(const ActivationArgs& args, float x) {
  if constexpr (kForm == ActivationForm::relu) {
    return x < 0.0f ? 0.0f : x;
  } else if constexpr (kForm == ActivationForm::relu2) {
    return x < 0.0f ? 0.0f : x * x;
  } else if constexpr (kForm == ActivationForm::normal) {
    return x * normal_cdf_approximate(x);
  } else if constexpr (kForm == ActivationForm::logistic) {
    // The square is kept finite: the cubic coefficient may be 0.
    return x * sigmoid_approximate(x * fmaf(args.cubic, fminf(x * x, 1e30f), args.slope));
  } else if constexpr (kForm == ActivationForm::sigmoid) {
    return sigmoid_approximate(x);
  } else if constexpr (kForm == ActivationForm::clamped) {
    const float g = x > args.limit ? args.limit : x;  // comparisons keep NaN
    return g * sigmoid_approximate(args.slope * g);
  } else {
    return x;
  }
}

// The hidden value of a gated MLP.
template <ActivationForm kForm>
__device__ __forceinline__ float gated(const ActivationArgs& args, float gate, float up) {
  const float f = activate<kForm>(args, gate);
  if constexpr (kForm != ActivationForm::clamped) return f * up;
  const float u = up > args.limit ? args.limit : (up < -args.limit ? -args.limit : up);
  return fmaf(f, u, f);
}

// body(form), an std::integral_constant-like value whose .value is the form as a constant: one branch for a whole
// tile of elements, where a branch an element would multiply the code.
template <ActivationForm kForm>
struct FormConstant {
  static constexpr ActivationForm value = kForm;
};
template <class Body>
__device__ __forceinline__ void with_form(ActivationForm form, const Body& body) {
  switch (form) {
    case ActivationForm::identity: return body(FormConstant<ActivationForm::identity>());
    case ActivationForm::relu: return body(FormConstant<ActivationForm::relu>());
    case ActivationForm::relu2: return body(FormConstant<ActivationForm::relu2>());
    case ActivationForm::normal: return body(FormConstant<ActivationForm::normal>());
    case ActivationForm::logistic: return body(FormConstant<ActivationForm::logistic>());
    case ActivationForm::sigmoid: return body(FormConstant<ActivationForm::sigmoid>());
    case ActivationForm::clamped: return body(FormConstant<ActivationForm::clamped>());
  }
}

}  // namespace fusedmlp::cuda
