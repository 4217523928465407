// The activations of bf16 hiddens (gate_table.h) on every ISA this machine has against core/activation.h in double:
//   |f~(x) - f(x)| <= 2^-8 max(|f(x)|, k |x|), k = 2^-11
// over every finite bf16 value and a dense fp32 sweep; the absolute 2^-19 where the activation has no factor x.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/activation.h"
#include "core/numeric.h"
#include "cpu_test_isas.h"
#include "unit/coarse_activation.h"
#include "unit/special_values.h"

namespace fusedmlp::cpu {
namespace {

constexpr int kStep = 16;  // values of one call's unit

std::vector<float> inputs() {
  std::vector<float> values;
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = core::bf16_to_float(static_cast<std::uint16_t>(bits));
    if (std::isfinite(value)) values.push_back(value);
  }
  for (int i = 0; i <= 1'000'000; ++i) values.push_back(-20.0f + 40.0f * static_cast<float>(i) / 1e6f);
  while (values.size() % kStep != 0) values.push_back(0.0f);
  return values;
}

class GateTable : public testing::TestWithParam<Isa> {};

TEST_P(GateTable, ActivationsAreWithinTheStatedBound) {
  const std::vector<float> x = inputs();
  std::vector<float> out(x.size());
  for (int i = 0; i < kActivationCount; ++i) {
    const MlpSpec spec{.activation = static_cast<Activation>(i)};
    if (spec.activation == Activation::swiglu_oai) continue;
    const bool exact = spec.activation == Activation::identity || spec.activation == Activation::relu ||
                       spec.activation == Activation::relu2;
    coarse_activation(GetParam(), spec, x.data(), nullptr, out.data(), static_cast<std::int64_t>(x.size()));
    double worst = 0;
    float worst_x = 0;
    for (std::size_t n = 0; n < x.size(); ++n) {
      const double want = core::activate<double>(spec.activation, x[n]);
      if (exact || !std::isfinite(static_cast<float>(want))) {
        ASSERT_EQ(out[n], static_cast<float>(want)) << to_string(spec.activation) << " at " << x[n];
        continue;
      }
      const double factor = spec.activation == Activation::sigmoid ? 1.0 : std::abs(static_cast<double>(x[n]));
      const double bound = std::ldexp(factor, -19) + std::numeric_limits<float>::min();
      const double share = std::abs(static_cast<double>(out[n]) - want) / bound;
      if (!(share <= worst)) {
        worst = share;
        worst_x = x[n];
      }
    }
    EXPECT_LE(worst, 1.0) << to_string(spec.activation) << " at " << worst_x;
  }
}

TEST_P(GateTable, FarFromZeroActivationsAreTheirLimits) {
  std::vector<float> x(4 * kStep);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (i % 2 == 0 ? 1.0f : -1.0f) * (16.0f + static_cast<float>(i));
  std::vector<float> out(x.size());
  for (const Activation activation :
       {Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu, Activation::silu}) {
    coarse_activation(GetParam(), {.activation = activation}, x.data(), nullptr, out.data(),
                      static_cast<std::int64_t>(x.size()));
    for (std::size_t n = 0; n < x.size(); ++n) EXPECT_EQ(out[n], x[n] > 0 ? x[n] : 0.0f) << to_string(activation);
  }
}

TEST_P(GateTable, InfAndNanFollowTheFormulas) {
  expect_inf_and_nan_follow_the_formulas(
      kStep, [](const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t count) {
        coarse_activation(GetParam(), spec, gate, up, out, count);
      });
}

TEST_P(GateTable, GatedFormsMultiplyByUp) {
  std::vector<float> gate, up;
  for (int i = -400; i < 400; ++i) {
    for (int j = -8; j < 8; ++j) {
      gate.push_back(static_cast<float>(i) * 0.025f);
      up.push_back(static_cast<float>(j) * 1.75f);
    }
  }
  std::vector<float> out(gate.size());
  for (int i = 0; i < kActivationCount; ++i) {
    const MlpSpec spec{.activation = static_cast<Activation>(i), .gated = true};
    coarse_activation(GetParam(), spec, gate.data(), up.data(), out.data(), static_cast<std::int64_t>(gate.size()));
    for (std::size_t n = 0; n < gate.size(); ++n) {
      const double want = core::gated<double>(spec, gate[n], up[n]);
      const bool oai = spec.activation == Activation::swiglu_oai;
      const double first = spec.activation == Activation::sigmoid ? 1.0 : std::abs(static_cast<double>(gate[n]));
      const double second = std::abs(static_cast<double>(up[n])) + (oai ? 1.0 : 0.0);
      EXPECT_LE(std::abs(out[n] - want), std::ldexp(first * second, -19) + std::ldexp(std::abs(want), -23))
          << form_name(spec.activation, true) << " " << gate[n] << " " << up[n];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, GateTable, testing::ValuesIn(vector_isas()),
                         [](const auto& param) { return std::string(to_string(param.param)); });

}  // namespace
}  // namespace fusedmlp::cpu
