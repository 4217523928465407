// The activation as the narrow kernels' argument.
#pragma once

#include <cstdint>

#include "fusedmlp/spec.h"

namespace fusedmlp::cuda::narrow {

// normal: gelu; tanh_normal: gelu_tanh; logistic: silu and quick_gelu; clamped: swiglu_oai.
enum class Form : std::uint8_t { identity, relu, relu2, sigmoid, normal, tanh_normal, logistic, clamped };

// Degree of the polynomial of the kernels' form (activation.cuh); 0: of no such form. The logistic function would
// take so high a one that a reciprocal is cheaper.
template <Form kForm, bool kHalf>
inline constexpr int kDegree = kForm == Form::normal        ? (kHalf ? 5 : 3)
                               : kForm == Form::tanh_normal ? (kHalf ? 5 : 4)
                                                            : 0;

struct FastActivation {
  Form form = Form::identity;
  float q[8] = {};
  float limit = 0;                       // swiglu_oai
  float end_scale = 1, start_scale = 1;  // of the sums over the hidden: 1/2 and 2 where those are of 2 f(x)
};

// The arguments for a spec's activation and storage type (bf16 or fp16).
FastActivation fast_activation(const MlpSpec& spec);

}  // namespace fusedmlp::cuda::narrow
