// The one definition of every activation, forward and derivative, in any floating-point type. Fast vector
// forms elsewhere are tested against it. Inf and NaN follow IEEE evaluation of the formulas as written. CUDA
// compilers build it for the device too.
#pragma once

#include <cmath>
#include <numbers>

#include "fusedmlp/spec.h"

#ifdef __CUDACC__
#define FUSEDMLP_HD __host__ __device__
#else
#define FUSEDMLP_HD
#endif

namespace fusedmlp::core {

inline constexpr double kGeluTanhCubic = 0.044715;  // Hendrycks and Gimpel 2016, the tanh approximation
inline constexpr double kQuickGeluSlope = 1.702;    // ibid., the sigmoid approximation

template <class T>
FUSEDMLP_HD T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

// f(x) for every activation but swiglu_oai, which is a function of gate and up: see gated().
template <class T>
FUSEDMLP_HD T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::identity: return x;
    case Activation::relu: return x < T(0) ? T(0) : x;
    case Activation::relu2: return x < T(0) ? T(0) : x * x;
    case Activation::gelu: return x * (T(0.5) * std::erfc(-x * T(std::numbers::sqrt2 / 2)));
    case Activation::gelu_tanh: {
      const T s = T(2 * std::numbers::sqrt2 / 1.7724538509055160273);  // 2 sqrt(2/pi); (1+tanh u)/2 = sigmoid(2u)
      return x * sigmoid(s * (x + T(kGeluTanhCubic) * x * x * x));
    }
    case Activation::quick_gelu: return x * sigmoid(T(kQuickGeluSlope) * x);
    case Activation::silu: return x * sigmoid(x);
    case Activation::sigmoid: return sigmoid(x);
    case Activation::swiglu_oai: break;
  }
  return x;
}

// The hidden value of a gated MLP.
template <class T>
FUSEDMLP_HD T gated(const MlpSpec& spec, T gate, T up) {
  if (spec.activation != Activation::swiglu_oai) return activate(spec.activation, gate) * up;
  const T limit = T(spec.limit);
  const T g = gate > limit ? limit : gate;  // comparisons keep NaN
  const T u = up > limit ? limit : (up < -limit ? -limit : up);
  return g * sigmoid(T(spec.alpha) * g) * (u + T(1));
}

// f'(x) for the activations of activate().
template <class T>
FUSEDMLP_HD T derivative(Activation activation, T x) {
  switch (activation) {
    case Activation::identity: return T(1);
    case Activation::relu: return x > T(0) ? T(1) : T(0);
    case Activation::relu2: return x > T(0) ? T(2) * x : T(0);
    case Activation::gelu: {
      const T phi = std::exp(T(-0.5) * x * x) * T(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
      return T(0.5) * std::erfc(-x * T(std::numbers::sqrt2 / 2)) + x * phi;
    }
    case Activation::gelu_tanh: {
      const T s = T(2 * std::numbers::sqrt2 / 1.7724538509055160273);
      const T p = sigmoid(s * (x + T(kGeluTanhCubic) * x * x * x));
      return p + x * p * (T(1) - p) * s * (T(1) + T(3 * kGeluTanhCubic) * x * x);
    }
    case Activation::quick_gelu: {
      const T p = sigmoid(T(kQuickGeluSlope) * x);
      return p + x * p * (T(1) - p) * T(kQuickGeluSlope);
    }
    case Activation::silu: {
      const T p = sigmoid(x);
      return p + x * p * (T(1) - p);
    }
    case Activation::sigmoid: {
      const T p = sigmoid(x);
      return p * (T(1) - p);
    }
    case Activation::swiglu_oai: break;
  }
  return T(0);
}

}  // namespace fusedmlp::core
