// Activations as arguments of kernels whose outputs have 16 bits, in few instructions within the numeric rule.
#pragma once

#include <cstdint>

#include "fusedmlp/spec.h"

namespace fusedmlp::cuda {

// Every sigmoid-shaped activation is x sigmoid(x p(x^2)) with its own p, so that one piece of code serves them
// (logistic):
//   silu        p = 1
//   quick_gelu  p = 1.702
//   gelu_tanh   p = 2 sqrt(2/pi) (1 + 0.044715 x^2)
//   gelu        p fitted to logit(Phi(x)) / x by scripts/fit_logit_normal.py
// Not gated, gelu takes half as many special-function instructions by (normal)
//   x Phi(x) = h + |h| (1 - 2 Phi(-|x|)), h = x / 2, log2(2 Phi(-|x|)) fitted by scripts/fit_sigmoid_tail.py
enum class ActivationShape : std::uint8_t { identity, relu, relu2, sigmoid, logistic, normal, swiglu_oai };

struct FastActivation {
  ActivationShape shape = ActivationShape::identity;
  // logistic: coefficients of p in powers of x^2, times -log2(e): sigmoid(z) = 1 / (1 + 2^(-z log2(e))).
  // normal: of log2(2 Phi(-2 a)) in powers of a, four for bf16.
  float p[6] = {};
  float limit = 0;  // swiglu_oai; its alpha is in p[0]
};

// The arguments for a spec's activation and storage type (bf16 or fp16).
FastActivation fast_activation(const MlpSpec& spec);

}  // namespace fusedmlp::cuda
