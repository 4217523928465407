// The activations as the entries compute them, through an fp32 MLP of width 1 whose weights are 1: y = f(x).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/activation.h"
#include "core/numeric.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"
#include "reference/error_bound.h"

namespace fusedmlp::test {
namespace {

// Every bf16, every fp16, and fp32 values 2^-12 of their size apart from 2^-40 to 2^10.
std::vector<float> inputs() {
  std::vector<float> all;
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    all.push_back(core::bf16_to_float(static_cast<std::uint16_t>(bits)));
    all.push_back(core::f16_to_float(static_cast<std::uint16_t>(bits)));
  }
  for (float x = 0x1p-40f; x < 1024; x *= 1 + 0x1p-12f) {
    all.push_back(x);
    all.push_back(-x);
  }
  return all;
}

class Activations : public ::testing::TestWithParam<Activation> {};

TEST_P(Activations, KeepTheNumericRule) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  MlpSpec spec;
  spec.d_in = spec.d_hidden = spec.d_out = 1;
  spec.activation = GetParam();
  spec.gated = spec.activation == Activation::swiglu_oai;
  spec.bias_up = spec.gated;  // up is the bias alone: u + 1 = 3
  Values values;
  values.x = inputs();
  values.up = {spec.gated ? 0.0f : 1.0f};
  values.gate = {1.0f};
  values.down = {1.0f};
  values.bias_up = {2.0f};
  const auto tokens = static_cast<std::int64_t>(values.x.size());
  if (spec.gated) {  // 0 * inf is the caller's NaN, not the activation's
    for (float& x : values.x) x = std::isfinite(x) ? x : 0.0f;
  }
  const Resident problem(spec, values, tokens);
  const bool exact = spec.activation <= Activation::relu;
  for (const std::string& kernel : gpu_kernels(spec, tokens)) {
    SCOPED_TRACE(kernel);
    const Forced forced({Isa::generic, kernel, false, Device::cuda()});
    const Plan plan = problem.plan();
    const Stream stream;
    problem.poison_y();
    ASSERT_TRUE(plan.run(problem.args(tokens, stream)).ok());
    ASSERT_EQ(stream.wait(), "");
    const std::vector<std::byte> y = problem.y(tokens);
    double worst = 0;
    float worst_x = 0;
    for (std::int64_t i = 0; i < tokens; ++i) {
      const float x = values.x[static_cast<std::size_t>(i)];
      const float got = core::load(DType::f32, y.data(), i);
      const double want = spec.gated ? core::gated(spec, double{x}, 2.0) : core::activate(spec.activation, double{x});
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got)) << "f(" << x << ") = " << got;
        continue;
      }
      if (!std::isfinite(static_cast<float>(want))) {
        ASSERT_EQ(got, static_cast<float>(want)) << "f(" << x << ")";
        continue;
      }
      if (exact) {
        ASSERT_EQ(got, static_cast<float>(want)) << "f(" << x << ")";
        continue;
      }
      // sigmoid has no factor x: its bound is relative to its range of 1. Gated, the factor is u + 1 = 3.
      const double size =
          spec.activation == Activation::sigmoid
              ? 1
              : std::max(std::abs(want), (spec.gated ? 3 : 1) * core::kFastFormK * std::abs(double{x}));
      const double allowed = 0x1p-23 * size + 0x1p-126;
      const double ratio = std::abs(double{got} - want) / allowed;
      if (!(ratio <= worst)) {
        worst = ratio;
        worst_x = x;
      }
    }
    EXPECT_LE(worst, 1) << "at x = " << worst_x;
    RecordProperty("worst_" + kernel, std::to_string(worst));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Activations,
                         ::testing::Values(Activation::identity, Activation::relu, Activation::relu2,
                                           Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu,
                                           Activation::silu, Activation::sigmoid, Activation::swiglu_oai),
                         [](const auto& p) { return std::string(to_string(p.param)); });

}  // namespace
}  // namespace fusedmlp::test
