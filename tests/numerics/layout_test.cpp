// The layout of the caller's tensors changes nothing: every layout that a kernel takes gives the bits of the dense
// one.
#include <gtest/gtest.h>

#include <algorithm>

#include "numerics/problem.h"

namespace fusedmlp::test {
namespace {

struct Shape {
  std::int64_t d_in, d_hidden, d_out, tokens;
};

constexpr Shape kShapes[] = {{1, 1, 1, 1},       {1, 40, 3, 5},     {33, 1, 17, 4},
                             {5, 65, 1, 3},      {65, 127, 33, 1},  {48, 64, 80, 16},
                             {127, 129, 65, 31}, {70, 300, 70, 70}, {65, 127, 40, 33}};

std::vector<Layout> layouts(bool gated) {
  std::vector<Layout> out;
  for (const bool joined : {false, true}) {
    if (joined && !gated) continue;
    for (const bool in_out : {false, true}) {
      for (const std::int64_t padding : {0, 1, 16}) {
        out.push_back({joined, in_out, padding, 1 + padding, false, false});
        out.push_back({joined, in_out, padding, 1 + padding, true, false});
        out.push_back({joined, in_out, padding, 1 + padding, false, true});
      }
    }
  }
  return out;
}

class Layouts : public ::testing::TestWithParam<std::tuple<DType, bool>> {};

TEST_P(Layouts, GiveTheSameBits) {
  MlpSpec spec;
  std::tie(spec.dtype, spec.gated) = GetParam();
  spec.activation = Activation::gelu_tanh;
  spec.bias_up = spec.bias_down = true;
  spec.bias_gate = spec.gated;
  for (const Shape& shape : kShapes) {
    spec.d_in = shape.d_in;
    spec.d_hidden = shape.d_hidden;
    spec.d_out = shape.d_out;
    spec.gate_order = GateOrder::first;
    const Values values = make_values(spec, shape.tokens, Data::normal, 11);
    expect_accurate(spec, values, {}, shape.tokens);
    Memory memory;
    const Placed dense = place(spec, values, shape.tokens, {.aligned = true}, memory);
    for (const Way& way : ways(spec, dense, shape.tokens)) {
      const std::vector<std::byte> want = run(way, spec, dense, shape.tokens);
      for (const Layout& layout : layouts(spec.gated)) {
        for (const GateOrder order : {GateOrder::first, GateOrder::last, GateOrder::interleaved}) {
          if (!layout.joined && order != GateOrder::first) continue;
          spec.gate_order = order;
          Memory other;
          const Placed placed = place(spec, values, shape.tokens, layout, other);
          if (std::ranges::count(ways(spec, placed, shape.tokens), way) == 0) continue;
          ASSERT_EQ(run(way, spec, placed, shape.tokens), want)
              << to_string(spec) << ", tokens " << shape.tokens << ", " << to_string(way)
              << (layout.in_out ? ", [in, out]" : "") << (layout.joined ? ", joined" : "") << ", padding "
              << layout.padding << (layout.misaligned ? ", misaligned" : "") << (layout.aligned ? ", aligned" : "");
        }
      }
      spec.gate_order = GateOrder::first;
    }
    if (FUSEDMLP_SANITIZED && shape.tokens > 5) break;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Forms, Layouts, ::testing::Combine(::testing::Values(DType::f32, DType::bf16, DType::f16), ::testing::Bool()),
    [](const auto& p) {
      return std::string(to_string(std::get<0>(p.param))) + (std::get<1>(p.param) ? "_gated" : "_plain");
    });

// No tokens: success, and nothing is read or written, not even through null pointers.
TEST(NoTokens, TouchNothing) {
  MlpSpec spec;
  spec.d_in = 17;
  spec.d_hidden = 33;
  spec.d_out = 9;
  Memory memory;
  const Placed placed = place(spec, make_values(spec, 1, Data::normal, 1), 1, {}, memory);
  for (const Way& way : cpu_ways(spec, 0)) {
    SCOPED_TRACE(to_string(way));
    const Forced forced(way);
    PlanOptions options;
    options.pack = way.packed;
    const Result<Plan> plan = Plan::create(spec, placed.weights, Device::cpu(), options);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    std::vector<std::byte> y(64, std::byte{0x5a});
    EXPECT_TRUE(plan->run(placed.x, y.data(), 0).ok());
    EXPECT_TRUE(plan->run(nullptr, nullptr, 0).ok());
    EXPECT_EQ(y, std::vector<std::byte>(64, std::byte{0x5a}));
  }
}

}  // namespace
}  // namespace fusedmlp::test
