// The vector activations of every ISA this machine has against core/activation.h in double:
//   |f~(x) - f(x)| <= 2^-23 max(|f(x)|, k |x|), k = 2
// over every finite bf16 and fp16 value and a dense fp32 sweep; identity, relu and relu2 bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/activation.h"
#include "core/numeric.h"
#include "cpu/isa_kernels.h"
#include "cpu_test_isas.h"
#include "unit/special_values.h"

namespace fusedmlp::cpu {
namespace {

constexpr double kTimesX = 2.0;

std::vector<float> inputs() {
  std::vector<float> values;
  for (int bits = 0; bits < 65536; ++bits) {
    for (const float value : {core::bf16_to_float(static_cast<std::uint16_t>(bits)),
                              core::f16_to_float(static_cast<std::uint16_t>(bits))}) {
      if (std::isfinite(value)) values.push_back(value);
    }
  }
  for (int i = 0; i <= 1'000'000; ++i) values.push_back(-20.0f + 40.0f * static_cast<float>(i) / 1e6f);
  while (values.size() % kMaxLanes != 0) values.push_back(0.0f);
  return values;
}

class VectorMath : public testing::TestWithParam<Isa> {};

TEST_P(VectorMath, ActivationsAreWithinTheStatedBound) {
  const IsaKernels& isa = *isa_kernels(GetParam());
  const std::vector<float> x = inputs();
  std::vector<float> out(x.size());
  for (int i = 0; i < kActivationCount; ++i) {
    MlpSpec spec{.activation = static_cast<Activation>(i)};
    if (spec.activation == Activation::swiglu_oai) continue;
    isa.activate(spec, x.data(), nullptr, out.data(), static_cast<std::int64_t>(x.size()));
    const bool exact = spec.activation == Activation::identity || spec.activation == Activation::relu;
    double worst = 0;
    float worst_x = 0;
    for (std::size_t n = 0; n < x.size(); ++n) {
      const double want = core::activate<double>(spec.activation, x[n]);
      if (exact) {
        ASSERT_EQ(static_cast<double>(out[n]), want) << to_string(spec.activation) << " at " << x[n];
        continue;
      }
      if (!std::isfinite(static_cast<float>(want))) {
        ASSERT_EQ(out[n], static_cast<float>(want)) << to_string(spec.activation) << " at " << x[n];
        continue;
      }
      // sigmoid has no factor x: its bound is absolute, eps times its range of 1. Below the smallest normal
      // number nothing can be relative.
      const double scale = spec.activation == Activation::sigmoid
                               ? 1.0
                               : std::max(std::abs(want), kTimesX * std::abs(static_cast<double>(x[n])));
      const double bound = std::ldexp(scale, -23) + std::numeric_limits<float>::min();
      const double share = std::abs(static_cast<double>(out[n]) - want) / bound;
      if (!(share <= worst)) {
        worst = share;
        worst_x = x[n];
      }
    }
    EXPECT_LE(worst, 1.0) << to_string(spec.activation) << " at " << worst_x;
  }
}

TEST_P(VectorMath, InfAndNanFollowTheFormulas) {
  expect_inf_and_nan_follow_the_formulas(
      kMaxLanes, [](const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t count) {
        isa_kernels(GetParam())->activate(spec, gate, up, out, count);
      });
}

TEST_P(VectorMath, GatedFormsMultiplyByUp) {
  const IsaKernels& isa = *isa_kernels(GetParam());
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
    isa.activate(spec, gate.data(), up.data(), out.data(), static_cast<std::int64_t>(gate.size()));
    for (std::size_t n = 0; n < gate.size(); ++n) {
      const double want = core::gated<double>(spec, gate[n], up[n]);
      // The activation's bound times the other factor, and one rounding of the product.
      const bool oai = spec.activation == Activation::swiglu_oai;
      const double g = gate[n];
      const double act = oai ? std::abs(g) : std::abs(core::activate<double>(spec.activation, g));
      const double factor = std::abs(static_cast<double>(up[n])) + (oai ? 1.0 : 0.0);
      const double sigmoid_floor = spec.activation == Activation::sigmoid ? 1.0 : kTimesX * std::abs(g);
      const double bound = std::ldexp(std::max(act, sigmoid_floor) * factor + std::abs(want), -23);
      EXPECT_LE(std::abs(out[n] - want), bound) << form_name(spec.activation, true) << " " << gate[n] << " " << up[n];
    }
  }
}

TEST_P(VectorMath, StoreRoundsToNearestEvenAndWidenIsExact) {
  const IsaKernels& isa = *isa_kernels(GetParam());
  const int width = 2 * isa.lanes;
  alignas(64) float c[2 * kMaxLanes];
  std::uint16_t y[2 * kMaxLanes];
  float wide[2 * kMaxLanes];
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (std::uint32_t high = 0; high < 65536; high += static_cast<std::uint32_t>(width)) {
      for (const std::uint32_t low : {0x0000u, 0x7fffu, 0x8000u, 0x8001u, 0x1000u, 0xf000u}) {
        for (int i = 0; i < width; ++i)
          c[i] = std::bit_cast<float>(((high + static_cast<std::uint32_t>(i)) << 16) | low);
        isa.store(dtype, c, nullptr, y, width, 1, width);
        for (int i = 0; i < width; ++i) {
          const std::uint16_t want =
              dtype == DType::bf16 ? core::float_to_bf16(c[i] + 0.0f) : core::float_to_f16(c[i] + 0.0f);
          if (std::isnan(c[i])) {
            ASSERT_TRUE(std::isnan(core::load(dtype, y, i))) << to_string(dtype) << " " << i;
          } else {
            ASSERT_EQ(y[i], want) << to_string(dtype) << " of " << c[i];
          }
        }
        isa.widen(dtype, y, wide, width - 1);  // an odd length takes the edge path
        for (int i = 0; i < width - 1; ++i) {
          const float want = core::load(dtype, y, i);
          ASSERT_TRUE(wide[i] == want || (std::isnan(wide[i]) && std::isnan(want)))
              << to_string(dtype) << " " << y[i];
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, VectorMath, testing::ValuesIn(vector_isas()),
                         [](const auto& param) { return std::string(to_string(param.param)); });

}  // namespace
}  // namespace fusedmlp::cpu
