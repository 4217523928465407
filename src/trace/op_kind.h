// What an op is to the matcher, told by its name alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trace/kernel_name.h"

namespace fusedmlp::trace {

// The element-wise steps that activations and gates are made of. A fused kernel does several.
enum class Step : std::uint8_t {
  gelu,
  silu,
  relu,
  sigmoid,
  tanh,
  erf,
  glu,       // sigmoid(half) * other half
  multiply,  // two tensors
  scale,     // by a scalar
  add,       // two tensors
  shift,     // by a scalar
  square,
  power,  // another exponent, or one that is not known
  clamp,
  bias,  // adds a row
};
inline constexpr int kStepCount = 15;  // at most the bits of Steps

using Steps = std::uint32_t;  // a set: bit 1 << Step
constexpr Steps bit(Step step) { return Steps{1} << static_cast<unsigned>(step); }

enum class OpClass : std::uint8_t {
  container,  // only its children work: aten::linear, annotations, compiled regions, autograd nodes
  view,       // launches nothing
  split,      // a view that cuts a packed gate and up apart
  gemm,
  pointwise,
  copy,    // casts, copies, dropout: carries the hidden on unchanged
  gather,  // rows picked: routing to experts
  top_k,
  whole,     // an MLP, or the experts of one, in one op
  boundary,  // anything else that computes: no MLP goes across
};

struct OpKind {
  OpClass op_class = OpClass::container;
  Steps steps = 0;                     // pointwise and gemm (epilogue)
  bool fused = false;                  // generated code: the steps' order and number are not known
  bool half = false;                   // reads gate and up from one tensor: silu_and_mul
  bool bias_named = false;             // the name has an addmm in it
  std::int8_t a = -1, b = -1, c = -1;  // gemm: which inputs are left [m, k], right [k, n] and bias; -1: none
  bool transposed = false;             // gemm: right is [n, k]
};

OpKind op_kind(std::string_view name);

// Code of torch.compile: triton_poi_fused__unsafe_view_gelu_mul_0, graph_0_cpp_fused_mul_silu_1.
bool is_generated(std::string_view name);
OpKind generated_kind(const KernelName& decoded);

// Steps of KernelName::ops. False when one of them is no part of an activation or a gate.
bool read_ops(const std::vector<std::string>& ops, OpKind& kind);

}  // namespace fusedmlp::trace
