// What an MlpSpec means: names, checks, sizes. The text form is in spec_text.cpp.
#include "fusedmlp/spec.h"

#include <bit>
#include <cmath>
#include <utility>

#include "core/format.h"
#include "core/text.h"

namespace fusedmlp {
inline namespace v0 {

double epsilon(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return 0x1p-23;
    case DType::bf16: return 0x1p-7;
    case DType::f16: return 0x1p-10;
  }
  return 0;
}

const char* to_string(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return "fp32";
    case DType::bf16: return "bf16";
    case DType::f16: return "fp16";
  }
  return "unknown";
}

Result<DType> parse_dtype(std::string_view text) {
  for (const std::string_view name : {"fp32", "float32", "f32"}) {
    if (text == name) return DType::f32;
  }
  for (const std::string_view name : {"bf16", "bfloat16"}) {
    if (text == name) return DType::bf16;
  }
  for (const std::string_view name : {"fp16", "float16", "f16"}) {
    if (text == name) return DType::f16;
  }
  return Status(StatusCode::invalid_argument, "dtype",
                "got " + core::quoted(text) + ", accepted: fp32, float32, f32, bf16, bfloat16, fp16, float16, f16");
}

const char* to_string(Activation activation) noexcept {
  switch (activation) {
    case Activation::identity: return "identity";
    case Activation::relu: return "relu";
    case Activation::relu2: return "relu2";
    case Activation::gelu: return "gelu";
    case Activation::gelu_tanh: return "gelu_tanh";
    case Activation::quick_gelu: return "quick_gelu";
    case Activation::silu: return "silu";
    case Activation::sigmoid: return "sigmoid";
    case Activation::swiglu_oai: return "swiglu_oai";
  }
  return "unknown";
}

Result<Activation> parse_activation(std::string_view text) {
  std::string accepted;
  for (int i = 0; i < kActivationCount; ++i) {
    const Activation activation = static_cast<Activation>(i);
    if (text == to_string(activation)) return activation;
    accepted += i == 0 ? "" : ", ";
    accepted += to_string(activation);
  }
  return Status(StatusCode::invalid_argument, "activation", "got " + core::quoted(text) + ", accepted: " + accepted);
}

const char* to_string(GateOrder order) noexcept {
  switch (order) {
    case GateOrder::first: return "first";
    case GateOrder::last: return "last";
    case GateOrder::interleaved: return "interleaved";
  }
  return "unknown";
}

Status validate(const MlpSpec& spec) {
  const auto wrong = [](const char* field, std::string message) {
    return Status(StatusCode::invalid_argument, field, std::move(message));
  };
  const std::pair<const char*, std::int64_t> widths[] = {
      {"d_in", spec.d_in}, {"d_hidden", spec.d_hidden}, {"d_out", spec.d_out}};
  for (const auto& [field, width] : widths) {
    if (width < 1 || width > kMaxWidth) {
      return wrong(field, core::format("must be from 1 to {}, got {}", kMaxWidth, width));
    }
  }
  // Enumerators out of range come from casts in bindings.
  if (static_cast<int>(spec.activation) >= kActivationCount) {
    return wrong("activation", core::format("must be an index below {}, got {}", kActivationCount,
                                            static_cast<int>(spec.activation)));
  }
  if (static_cast<int>(spec.dtype) >= kDTypeCount) {
    return wrong("dtype",
                 core::format("must be an index below {}, got {}", kDTypeCount, static_cast<int>(spec.dtype)));
  }
  if (static_cast<int>(spec.gate_order) > static_cast<int>(GateOrder::interleaved)) {
    return wrong("gate_order", core::format("must be first, last or interleaved (0, 1, 2), got {}",
                                            static_cast<int>(spec.gate_order)));
  }
  if (spec.activation == Activation::swiglu_oai) {
    if (!spec.gated) return wrong("activation", "swiglu_oai is a gated form, got gated = false");
    if (!std::isfinite(spec.alpha)) return wrong("alpha", core::format("must be finite, got {}", spec.alpha));
    if (!std::isfinite(spec.limit) || !(spec.limit > 0)) {
      return wrong("limit", core::format("must be finite and > 0, got {}", spec.limit));
    }
  }
  if (spec.bias_gate && !spec.gated) return wrong("bias_gate", "a plain MLP has no gate: accepted is false");
  return {};
}

std::size_t hash(const MlpSpec& spec) noexcept {
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  const auto mix = [&state](std::uint64_t value) {  // splitmix64's finalizer over a running sum
    state += value + 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
    state ^= state >> 31;
  };
  mix(static_cast<std::uint64_t>(spec.d_in));
  mix(static_cast<std::uint64_t>(spec.d_hidden));
  mix(static_cast<std::uint64_t>(spec.d_out));
  mix(static_cast<std::uint64_t>(spec.activation) | static_cast<std::uint64_t>(spec.gate_order) << 8 |
      static_cast<std::uint64_t>(spec.dtype) << 16 | std::uint64_t{spec.gated} << 24 |
      std::uint64_t{spec.bias_gate} << 25 | std::uint64_t{spec.bias_up} << 26 | std::uint64_t{spec.bias_down} << 27);
  // + 0.0f: equal specs hash alike, and -0 == 0.
  mix(std::uint64_t{std::bit_cast<std::uint32_t>(spec.alpha + 0.0f)} << 32 |
      std::bit_cast<std::uint32_t>(spec.limit + 0.0f));
  return static_cast<std::size_t>(state);
}

double flops(const MlpSpec& spec, std::int64_t tokens) noexcept {
  const double hidden_products = spec.gated ? 2 : 1;
  const double per_hidden = hidden_products * static_cast<double>(spec.d_in) + static_cast<double>(spec.d_out);
  return 2 * static_cast<double>(tokens) * static_cast<double>(spec.d_hidden) * per_hidden;
}

std::int64_t weight_elements(const MlpSpec& spec) noexcept {
  const std::int64_t matrices = spec.d_hidden * (spec.d_in * (spec.gated ? 2 : 1) + spec.d_out);
  const std::int64_t hidden_biases = (spec.gated && spec.bias_gate ? 1 : 0) + (spec.bias_up ? 1 : 0);
  return matrices + hidden_biases * spec.d_hidden + (spec.bias_down ? spec.d_out : 0);
}

}  // namespace v0
}  // namespace fusedmlp
