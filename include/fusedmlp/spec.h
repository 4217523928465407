// MlpSpec: what is computed, as a plain value.
//
//   plain  y = act(x W_up^T + b_up) W_down^T + b_down
//   gated  y = (act(x W_gate^T + b_gate) * (x W_up^T + b_up)) W_down^T + b_down
//
// x is [tokens, d_in], the hidden is [tokens, d_hidden], y is [tokens, d_out].
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fusedmlp/status.h"

namespace fusedmlp {
inline namespace v0 {

// Storage type of x, weights, biases and y. Products are accumulated in fp32 whatever the storage.
enum class DType : std::uint8_t { f32, bf16, f16 };

inline constexpr int kDTypeCount = 3;
inline std::size_t size_of(DType dtype) noexcept { return dtype == DType::f32 ? 4 : 2; }  // bytes an element
double epsilon(DType dtype) noexcept;              // distance from 1 to the next value: 2^-23, 2^-7, 2^-10
const char* to_string(DType dtype) noexcept;       // "fp32", "bf16", "fp16"
Result<DType> parse_dtype(std::string_view text);  // those names, also "float32", "f32", "bfloat16", "float16", "f16"

// The element-wise function between the two products. Formulas: src/core/activation.h, the one definition.
enum class Activation : std::uint8_t {
  identity,
  relu,
  relu2,       // relu(x)^2
  gelu,        // x Phi(x), erf form
  gelu_tanh,   // tanh approximation ("gelu_new", "gelu_pytorch_tanh")
  quick_gelu,  // x sigmoid(1.702 x)
  silu,        // x sigmoid(x)
  sigmoid,
  swiglu_oai,  // GPT-OSS, gated only: g' sigmoid(alpha g') (u' + 1), g' = min(g, limit), u' = clamp(u, +-limit)
};

inline constexpr int kActivationCount = 9;
const char* to_string(Activation activation) noexcept;
Result<Activation> parse_activation(std::string_view text);

// Where gate and up lie when the caller holds them in one matrix of 2 * d_hidden rows. Without effect for
// separate matrices.
enum class GateOrder : std::uint8_t {
  first,        // gate rows, then up rows
  last,         // up rows, then gate rows
  interleaved,  // gate 0, up 0, gate 1, up 1, ...
};

const char* to_string(GateOrder order) noexcept;

struct MlpSpec {
  std::int64_t d_in = 0;
  std::int64_t d_hidden = 0;
  std::int64_t d_out = 0;
  Activation activation = Activation::gelu;
  bool gated = false;
  GateOrder gate_order = GateOrder::first;
  bool bias_gate = false;  // gated only
  bool bias_up = false;
  bool bias_down = false;
  DType dtype = DType::f32;
  float alpha = 1.702f;  // swiglu_oai only
  float limit = 7.0f;    // swiglu_oai only; > 0

  friend bool operator==(const MlpSpec&, const MlpSpec&) = default;
};

// Largest accepted width. Bounds index arithmetic: 2 * d_hidden * d_in * 4 bytes stays far below 2^63.
inline constexpr std::int64_t kMaxWidth = std::int64_t{1} << 24;

// Ok, or which field is wrong, what it was and what is accepted.
Status validate(const MlpSpec& spec);

// Text form, read and written by the same grammar; to_string(parse_spec(s)) is canonical:
//   NAME:D_INxD_HIDDEN[->D_OUT][+bias|+bias_gate|+bias_up|+bias_down ...][,fp32|bf16|fp16]
//       [,gate=first|last|interleaved][,alpha=A][,limit=L]
// D_OUT defaults to D_IN; +bias sets every bias the form has. NAME is an activation (plain MLP) or a gated
// form: bilinear reglu relu2glu geglu geglu_tanh quick_geglu swiglu glu swiglu_oai.
// Examples: "geglu:768x3072", "gelu:1024x4096+bias,bf16", "relu2:768x3072->1000".
Result<MlpSpec> parse_spec(std::string_view text);
std::string to_string(const MlpSpec& spec);
const char* form_name(Activation activation, bool gated) noexcept;  // NAME of the grammar

std::size_t hash(const MlpSpec& spec) noexcept;

// Arithmetic and weights of one forward pass.
double flops(const MlpSpec& spec, std::int64_t tokens) noexcept;  // 2 per multiply-add of both products
std::int64_t weight_elements(const MlpSpec& spec) noexcept;       // matrices and biases

}  // namespace v0
}  // namespace fusedmlp

template <>
struct std::hash<fusedmlp::MlpSpec> {
  std::size_t operator()(const fusedmlp::MlpSpec& spec) const noexcept { return fusedmlp::hash(spec); }
};
