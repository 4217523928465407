// Activations in fp32 from the hardware's approximate exponential and reciprocal, within
//   |f~(x) - f(x)| <= 2^-23 max(|f(x)|, k |x|), k = 2 (relu, relu2, identity: exact)
// of src/core/activation.h; tests/gpu/activation_test.cpp holds them to it over every bf16 and fp16 value and a
// dense fp32 sweep. The choice is an argument: it is the same for a whole kernel, so a branch on it costs little.
#pragma once

#include "core/activation.h"

namespace fusedmlp::cuda {

// What a kernel knows of the spec's activation.
struct ActivationArgs {
  Activation activation;
  float alpha;
  float limit;
};

inline ActivationArgs activation_args(const MlpSpec& spec) { return {spec.activation, spec.alpha, spec.limit}; }

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
  const float t = reciprocal_approximate(fmaf(fabsf(x), 0.26f, 1.0f));
  float p = 3.050484508e-02f;
  p = fmaf(p, t, -1.528286636e-01f);
  p = fmaf(p, t, 2.514910102e-01f);
  p = fmaf(p, t, -1.509486884e-01f);
  p = fmaf(p, t, 1.609476954e-01f);
  p = fmaf(p, t, 5.102773756e-02f);
  p = fmaf(p, t, 1.030302420e-01f);
  p = fmaf(p, t, 1.030167490e-01f);
  p = fmaf(p, t, 1.037590578e-01f);
  const float tail = exp2_approximate(-kHalfLog2E * x * x) * t * p;
  return x < 0.0f ? tail : 1.0f - tail;
}

// f(x) for every activation but swiglu_oai.
__device__ __forceinline__ float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::identity: return x;
    case Activation::relu: return x < 0.0f ? 0.0f : x;
    case Activation::relu2: return x < 0.0f ? 0.0f : x * x;
    case Activation::gelu: return x * normal_cdf_approximate(x);
    case Activation::gelu_tanh: {
      constexpr float kScale = 2 * 0.79788456080286535588f;  // 2 sqrt(2/pi): (1 + tanh u)/2 = sigmoid(2u)
      const float s = kScale * x;
      return x * sigmoid_approximate(fmaf(s, static_cast<float>(core::kGeluTanhCubic) * x * x, s));
    }
    case Activation::quick_gelu: return x * sigmoid_approximate(static_cast<float>(core::kQuickGeluSlope) * x);
    case Activation::silu: return x * sigmoid_approximate(x);
    case Activation::sigmoid: return sigmoid_approximate(x);
    case Activation::swiglu_oai: break;
  }
  return x;
}

// The hidden value of a gated MLP.
__device__ __forceinline__ float gated(const ActivationArgs& args, float gate, float up) {
  if (args.activation != Activation::swiglu_oai) return activate(args.activation, gate) * up;
  const float g = gate > args.limit ? args.limit : gate;  // comparisons keep NaN
  const float u = up > args.limit ? args.limit : (up < -args.limit ? -args.limit : up);
  const float s = g * sigmoid_approximate(args.alpha * g);
  return fmaf(s, u, s);
}

}  // namespace fusedmlp::cuda
