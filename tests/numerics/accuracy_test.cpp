// Every form against fp64, by the two criteria of reference/error_bound.h: the norm of the error at most twice the
// same-precision layer-by-layer reference's plus eps, and each element within a bound derived from its own inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernel.h"
#include "core/numeric.h"
#include "numerics/problem.h"
#include "reference/reference.h"

namespace fusedmlp::test {
namespace {

constexpr std::int64_t kWidths[] = {1, 3, 8, 17, 65, 104, 127, 384, 768};
constexpr std::int64_t kTokens[] = {1, 2, 3, 5, 7, 8, 13, 16, 31, 33, 64, 65, 100, 129, 257};
// Multiply-adds of a sampled case. The truth and the reference are scalar loops, run once and once per ISA.
constexpr std::int64_t kMostWork = FUSEDMLP_SANITIZED ? 200'000 : 12'000'000;

std::string name_of(const MlpSpec& spec) {
  return std::string(form_name(spec.activation, spec.gated)) + "_" + to_string(spec.dtype);
}

class Accuracy : public ::testing::TestWithParam<MlpSpec> {};

// Small sizes, none a multiple of a vector: the whole cross product of packing and biases.
TEST_P(Accuracy, EveryPackingAndBias) {
  std::uint64_t seed = 1;
  for (const Packing& packing : packings(GetParam())) {
    for (MlpSpec spec : with_biases(GetParam(), packing)) {
      spec.d_in = 17;
      spec.d_hidden = 37;
      for (const std::int64_t tokens : {1, 7}) {
        for (const bool aligned : {false, true}) {
          Layout layout;
          layout.joined = packing.joined;
          layout.aligned = aligned;
          spec.d_out = aligned ? 24 : 21;
          expect_accurate(spec, make_values(spec, tokens, Data::normal, ++seed), layout, tokens);
          if (HasFailure()) return;
        }
      }
    }
  }
}

// Odd widths and token counts, drawn at random but always the same; every axis varies at once.
TEST_P(Accuracy, SampledSizes) {
  const MlpSpec form = GetParam();
  Random random(0xace + static_cast<std::uint64_t>(form.activation) * 64 +
                static_cast<std::uint64_t>(form.dtype) * 8 + (form.gated ? 1 : 0));
  const std::vector<Packing> choices = packings(form);
  for (int i = 0; i < (FUSEDMLP_SANITIZED ? 3 : gpu_only() ? 60 : 14); ++i) {
    const Packing packing =
        choices[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(choices.size())))];
    const std::vector<MlpSpec> specs = with_biases(form, packing);
    MlpSpec spec = specs[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(specs.size())))];
    spec.d_in = random.pick(kWidths);
    spec.d_hidden = random.pick(kWidths);
    spec.d_out = random.pick(kWidths);
    std::int64_t tokens = random.pick(kTokens);
    const std::int64_t work = spec.d_hidden * (spec.d_in * (spec.gated ? 2 : 1) + spec.d_out);
    tokens = std::max<std::int64_t>(1, std::min(tokens, kMostWork / work));
    if (work > kMostWork) continue;
    Layout layout;
    layout.joined = packing.joined;
    layout.in_out = random.below(3) == 0;
    layout.padding = random.below(2) * 5;
    layout.bias_stride = 1 + random.below(2);
    layout.aligned = random.below(2) == 0;
    expect_accurate(spec, make_values(spec, tokens, Data::normal, random.bits()), layout, tokens);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Accuracy, ::testing::ValuesIn(all_forms()),
                         [](const auto& form) { return name_of(form.param); });

// Deep sums, many rows and every dtype once: what blocking over k and over rows must get right.
class LargeAccuracy : public ::testing::TestWithParam<DType> {};

TEST_P(LargeAccuracy, RealWidths) {
  MlpSpec spec;
  spec.dtype = GetParam();
  spec.d_in = spec.d_out = FUSEDMLP_SANITIZED ? 300 : 768;  // beyond one block of k either way
  spec.d_hidden = FUSEDMLP_SANITIZED ? 600 : 3072;
  spec.bias_up = spec.bias_down = true;
  expect_accurate(spec, make_values(spec, 3, Data::normal, 5), {.aligned = true}, 3);
  spec = MlpSpec();
  spec.dtype = GetParam();
  spec.activation = Activation::silu;
  spec.gated = true;
  spec.d_in = FUSEDMLP_SANITIZED ? 33 : 129;
  spec.d_out = FUSEDMLP_SANITIZED ? 40 : 136;
  spec.d_hidden = FUSEDMLP_SANITIZED ? 65 : 257;
  expect_accurate(spec, make_values(spec, 257, Data::normal, 6), {.aligned = true}, 257);
}

INSTANTIATE_TEST_SUITE_P(DTypes, LargeAccuracy, ::testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

// The yardstick itself: its truth is the library's fp64 reference, computed apart from it.
TEST(Yardstick, AgreesWithTheFp64Reference) {
  for (MlpSpec spec : all_forms()) {
    spec.d_in = 19;
    spec.d_hidden = 23;
    spec.d_out = 11;
    spec.bias_up = spec.bias_down = true;
    spec.bias_gate = spec.gated;
    constexpr std::int64_t kRows = 4;
    Memory memory;
    Layout layout;
    layout.joined = spec.gated;
    const Placed placed = place(spec, make_values(spec, kRows, Data::normal, 3), kRows, layout, memory);
    const core::Truth truth =
        core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, kRows, core::Roundings::fused);
    std::vector<double> y(truth.y.size());
    core::reference_f64(spec, placed.weights, placed.x, placed.ldx, y.data(), 0, kRows);
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_NEAR(truth.y[i], y[i], 1e-12 * (1 + std::abs(y[i]))) << to_string(spec) << " element " << i;
    }
  }
}

// The yardstick can fail: one weight left out, one bias doubled, one NaN.
TEST(Yardstick, SeesSmallMistakes) {
  MlpSpec spec;
  spec.d_in = 64;
  spec.d_hidden = 96;
  spec.d_out = 32;
  spec.bias_up = spec.bias_down = true;
  constexpr std::int64_t kRows = 8;
  const Way reference{Isa::generic, "reference", false};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    spec.dtype = dtype;
    const Values good = make_values(spec, kRows, Data::normal, 9);
    Memory memory;
    const Placed placed = place(spec, good, kRows, {}, memory);
    const core::Truth truth =
        core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, kRows, core::Roundings::layer_by_layer);
    std::vector<std::byte> y = run(reference, spec, placed, kRows);
    const core::Deviation right = core::compare(truth, spec, y.data(), 0, kRows);
    const double limit = core::norm_limit(spec, kRows, right.norm);
    ASSERT_LE(right.worst_ratio, 1);
    ASSERT_LE(right.norm, limit);

    Values bad = good;
    *std::max_element(bad.down.begin(), bad.down.end()) = 0;
    const std::vector<std::byte> dropped = run(reference, spec, place(spec, bad, kRows, {}, memory), kRows);
    const core::Deviation without = core::compare(truth, spec, dropped.data(), 0, kRows);
    EXPECT_TRUE(without.norm > limit || without.worst_ratio > 1) << to_string(dtype);

    bad = good;
    *std::max_element(bad.bias_up.begin(), bad.bias_up.end()) *= 2;
    const std::vector<std::byte> biased = run(reference, spec, place(spec, bad, kRows, {}, memory), kRows);
    const core::Deviation doubled = core::compare(truth, spec, biased.data(), 0, kRows);
    EXPECT_TRUE(doubled.norm > limit || doubled.worst_ratio > 1) << to_string(dtype);

    core::store(dtype, y.data(), 17, std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(core::compare(truth, spec, y.data(), 0, kRows).kind_errors, 1);
  }
}

}  // namespace
}  // namespace fusedmlp::test
