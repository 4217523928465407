// Sparse small integers: every product, sum, hidden value and output is exact in fp32, bf16 and fp16, so every
// kernel must give exactly the integer. Threshold 0.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "core/numeric.h"
#include "numerics/problem.h"

namespace fusedmlp::test {
namespace {

struct Shape {
  std::int64_t d_in, d_hidden, d_out;
};

constexpr Shape kShapes[] = {{1, 1, 1},     {3, 5, 2},       {16, 32, 16},  {17, 65, 3},
                             {65, 17, 127}, {127, 127, 65},  {64, 256, 64}, {300, 129, 31},
                             {96, 384, 96}, {768, 520, 200}, {129, 257, 24}};
constexpr std::int64_t kTokens[] = {1, 2, 6, 7, 8, 15, 16, 29, 33, 65, 130};

// y computed in integers, straight from the logical values.
std::vector<std::int64_t> expected(const MlpSpec& spec, const Values& v, std::int64_t tokens) {
  const auto dot = [](const float* a, const float* b, std::int64_t n) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<std::int64_t>(a[i]) * static_cast<std::int64_t>(b[i]);
    return sum;
  };
  const auto bias = [](const std::vector<float>& b, std::int64_t i) {
    return b.empty() ? std::int64_t{0} : static_cast<std::int64_t>(b[static_cast<std::size_t>(i)]);
  };
  const auto act = [&](std::int64_t z) {
    if (spec.activation == Activation::identity) return z;
    const std::int64_t positive = std::max<std::int64_t>(z, 0);
    return spec.activation == Activation::relu ? positive : positive * positive;
  };
  std::vector<std::int64_t> y;
  std::vector<float> h(static_cast<std::size_t>(spec.d_hidden));
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* x = v.x.data() + t * spec.d_in;
    for (std::int64_t j = 0; j < spec.d_hidden; ++j) {
      const std::int64_t up = dot(x, v.up.data() + j * spec.d_in, spec.d_in) + bias(v.bias_up, j);
      std::int64_t value = 0;
      if (spec.gated) {
        value = act(dot(x, v.gate.data() + j * spec.d_in, spec.d_in) + bias(v.bias_gate, j)) * up;
      } else {
        value = act(up);
      }
      EXPECT_LE(std::abs(value), 256) << "the hidden must be a bf16";
      h[static_cast<std::size_t>(j)] = static_cast<float>(value);
    }
    for (std::int64_t o = 0; o < spec.d_out; ++o) {
      y.push_back(dot(h.data(), v.down.data() + o * spec.d_hidden, spec.d_hidden) + bias(v.bias_down, o));
      EXPECT_LE(std::abs(y.back()), 256) << "the output must be a bf16";
    }
  }
  return y;
}

void expect_exact(const MlpSpec& spec, const Layout& layout, std::int64_t tokens, std::uint64_t seed) {
  const Values values = make_values(spec, tokens, Data::integer, seed);
  const std::vector<std::int64_t> want = expected(spec, values, tokens);
  Memory memory;
  const Placed placed = place(spec, values, tokens, layout, memory);
  for (const Way& way : ways(spec, placed, tokens)) {
    const std::vector<std::byte> y = run(way, spec, placed, tokens);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const float got = core::load(spec.dtype, y.data(), static_cast<std::int64_t>(i));
      ASSERT_EQ(got, static_cast<float>(want[i]))
          << to_string(spec) << ", tokens " << tokens << ", " << to_string(way) << ", element " << i;
    }
  }
}

class Exact : public ::testing::TestWithParam<std::tuple<DType, Activation, bool>> {};

TEST_P(Exact, Integers) {
  MlpSpec spec;
  std::tie(spec.dtype, spec.activation, spec.gated) = GetParam();
  Random random(7);
  for (const Shape& shape : kShapes) {
    spec.d_in = shape.d_in;
    spec.d_hidden = shape.d_hidden;
    spec.d_out = shape.d_out;
    for (int repeat = 0; repeat < (FUSEDMLP_SANITIZED ? 1 : gpu_only() ? 16 : 4); ++repeat) {
      const std::uint64_t mask = random.bits();
      Layout layout;
      layout.joined = spec.gated && (mask & 8) != 0;
      layout.in_out = (mask & 16) != 0;
      layout.padding = (mask & 32) != 0 ? 3 : 0;
      layout.aligned = (mask & 64) != 0;
      spec.bias_up = (mask & 1) != 0;
      spec.bias_gate = spec.gated && (layout.joined ? spec.bias_up : (mask & 2) != 0);
      spec.bias_down = (mask & 4) != 0;
      spec.gate_order = layout.joined ? static_cast<GateOrder>(random.below(3)) : GateOrder::first;
      expect_exact(spec, layout, random.pick(kTokens), random.bits());
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Exact,
                         ::testing::Combine(::testing::Values(DType::f32, DType::bf16, DType::f16),
                                            ::testing::Values(Activation::identity, Activation::relu,
                                                              Activation::relu2),
                                            ::testing::Bool()),
                         [](const auto& p) {
                           return std::string(form_name(std::get<1>(p.param), std::get<2>(p.param))) + "_" +
                                  to_string(std::get<0>(p.param));
                         });

}  // namespace
}  // namespace fusedmlp::test
