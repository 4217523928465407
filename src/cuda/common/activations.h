// The activation as a kernel's argument.
#pragma once

#include <cstdint>

#include "core/activation.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cuda {

// Forms that differ in a coefficient share one: x sigmoid(slope x + cubic x^3) is silu, quick_gelu and gelu_tanh.
enum class ActivationForm : std::uint8_t { identity, relu, relu2, normal, logistic, sigmoid, clamped };

// What a kernel knows of the spec's activation.
struct ActivationArgs {
  ActivationForm form = ActivationForm::identity;
  float slope = 0;  // logistic, and clamped (there alpha)
  float cubic = 0;  // logistic
  float limit = 0;  // clamped
};

inline ActivationArgs activation_args(const MlpSpec& spec) {
  constexpr double kTanhSlope = 2 * 0.79788456080286535588;  // 2 sqrt(2/pi): (1 + tanh u)/2 = sigmoid(2u)
  switch (spec.activation) {
    case Activation::identity: return {ActivationForm::identity};
    case Activation::relu: return {ActivationForm::relu};
    case Activation::relu2: return {ActivationForm::relu2};
    case Activation::gelu: return {ActivationForm::normal};
    case Activation::gelu_tanh:
      return {ActivationForm::logistic, static_cast<float>(kTanhSlope),
              static_cast<float>(kTanhSlope * core::kGeluTanhCubic)};
    case Activation::quick_gelu: return {ActivationForm::logistic, static_cast<float>(core::kQuickGeluSlope)};
    case Activation::silu: return {ActivationForm::logistic, 1.0f};
    case Activation::sigmoid: return {ActivationForm::sigmoid};
    case Activation::swiglu_oai: return {ActivationForm::clamped, spec.alpha, 0.0f, spec.limit};
  }
  return {};
}

}  // namespace fusedmlp::cuda
