// Nothing is read or written beside the buffers a caller hands in: poisoned bands and unreadable pages around x, y
// and the gaps between its rows, every weight and bias, the packed copy and the workspace.
#include <gtest/gtest.h>

#include <cstring>

#include "numerics/problem.h"

namespace fusedmlp::test {
namespace {

struct Shape {
  std::int64_t d_in, d_hidden, d_out, tokens;
};

constexpr Shape kShapes[] = {{1, 1, 1, 1}, {17, 37, 21, 1}, {65, 127, 33, 7}, {32, 64, 48, 16}, {31, 100, 129, 30}};

constexpr Layout kLayouts[] = {
    {},
    {.joined = true, .in_out = false, .padding = 3, .bias_stride = 2, .misaligned = true},
    {.joined = false, .in_out = true, .padding = 1, .bias_stride = 1, .misaligned = false},
};

// A buffer for `tokens` rows of y, `ldy` apart, and nothing after the last row.
std::byte* take_rows(Memory& memory, const MlpSpec& spec, std::int64_t tokens, std::int64_t ldy) {
  const std::size_t size = size_of(spec.dtype);
  return memory.take(static_cast<std::size_t>((tokens - 1) * ldy + spec.d_out) * size, size);
}

void expect_gaps_untouched(const MlpSpec& spec, const std::byte* y, std::int64_t tokens, std::int64_t ldy) {
  const auto size = static_cast<std::int64_t>(size_of(spec.dtype));
  for (std::int64_t t = 0; t + 1 < tokens; ++t) {
    for (std::int64_t b = (t * ldy + spec.d_out) * size; b < (t + 1) * ldy * size; ++b) {
      ASSERT_EQ(y[b], std::byte{0xff}) << "row " << t << ": the gap after it was written";
    }
  }
}

// Plan with its own packed copy; the workspace in guarded memory of exactly the size asked for.
void run_plan(const MlpSpec& spec, const Shape& shape, const Layout& layout, Guard guard) {
  Memory memory(guard);
  const Values values = make_values(spec, shape.tokens, Data::normal, 3);
  const Placed placed = place(spec, values, shape.tokens, layout, memory);
  memory.freeze();
  const core::Truth truth = core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, shape.tokens,
                                                   core::Roundings::layer_by_layer);
  for (const Way& way : cpu_ways(spec, shape.tokens)) {
    SCOPED_TRACE(to_string(spec) + ", " + to_string(way));
    const Forced forced(way);
    PlanOptions options;
    options.pack = way.packed;
    const Result<Plan> plan = Plan::create(spec, placed.weights, Device::cpu(), options);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    Memory outputs(guard);
    RunArgs args;
    args.x = placed.x;
    args.ldx = placed.ldx;
    args.ldy = spec.d_out + 5;
    std::byte* y = take_rows(outputs, spec, shape.tokens, args.ldy);
    args.y = y;
    args.tokens = shape.tokens;
    args.workspace_bytes = plan->workspace_bytes(shape.tokens);
    args.workspace = outputs.take(args.workspace_bytes, 64);  // full of NaN: dirty scratch must not matter
    const Status status = plan->run(args);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_EQ(outputs.violation(), "");
    EXPECT_EQ(memory.violation(), "");
    expect_gaps_untouched(spec, y, shape.tokens, args.ldy);
    const core::Deviation d = core::compare(truth, spec, y, args.ldy, shape.tokens);
    EXPECT_EQ(d.kind_errors, 0) << "poison came into the result";
    EXPECT_LE(d.worst_ratio, 1);
    if (::testing::Test::HasFailure()) return;
  }
}

// The stateless calls, with the packed copy in guarded memory of exactly packed_bytes().
void run_packed(const MlpSpec& spec, const Shape& shape, const Layout& layout, Guard guard) {
  const Values values = make_values(spec, shape.tokens, Data::normal, 4);
  for (const Way& way : cpu_ways(spec, shape.tokens)) {
    if (!way.packed) continue;
    SCOPED_TRACE(to_string(spec) + ", " + to_string(way));
    const Forced forced(way);
    Memory memory(guard);
    const Placed placed = place(spec, values, shape.tokens, layout, memory);
    std::byte* packed = memory.take(packed_bytes(spec), 64);
    const Status packing = pack(spec, placed.weights, packed);
    ASSERT_TRUE(packing.ok()) << packing.to_string();
    EXPECT_EQ(memory.violation(), "");
    memory.freeze();
    Memory outputs(guard);
    RunArgs args;
    args.x = placed.x;
    args.ldx = placed.ldx;
    args.ldy = spec.d_out;
    args.y = take_rows(outputs, spec, shape.tokens, args.ldy);
    args.tokens = shape.tokens;
    const Status status = run(spec, placed.weights, packed, args);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_EQ(outputs.violation(), "");
    EXPECT_EQ(memory.violation(), "");
    const core::Truth truth =
        core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, shape.tokens, core::Roundings::fused);
    const core::Deviation d = core::compare(truth, spec, args.y, args.ldy, shape.tokens);
    EXPECT_EQ(d.kind_errors, 0) << "poison came into the result";
    EXPECT_LE(d.worst_ratio, 1);
    if (::testing::Test::HasFailure()) return;
  }
}

class Guards : public ::testing::TestWithParam<std::tuple<Guard, DType, bool>> {};

TEST_P(Guards, NothingBesideTheBuffersIsTouched) {
  const auto [guard, dtype, gated] = GetParam();
  MlpSpec spec;
  spec.dtype = dtype;
  spec.gated = gated;
  spec.activation = gated ? Activation::silu : Activation::gelu;
  spec.bias_up = spec.bias_down = true;
  spec.bias_gate = gated;
  for (const Shape& shape : kShapes) {
    spec.d_in = shape.d_in;
    spec.d_hidden = shape.d_hidden;
    spec.d_out = shape.d_out;
    for (const Layout& layout : kLayouts) {
      run_plan(spec, shape, layout, guard);
      run_packed(spec, shape, layout, guard);
      if (HasFailure()) return;
    }
  }
}

std::string guard_case_name(const ::testing::TestParamInfo<Guards::ParamType>& info) {
  static constexpr const char* kNames[] = {"bands", "page_after", "page_before"};
  const auto [guard, dtype, gated] = info.param;
  return std::string(kNames[static_cast<int>(guard)]) + "_" + to_string(dtype) + (gated ? "_gated" : "_plain");
}

INSTANTIATE_TEST_SUITE_P(Forms, Guards,
                         ::testing::Combine(::testing::Values(Guard::bands, Guard::page_after, Guard::page_before),
                                            ::testing::Values(DType::f32, DType::bf16, DType::f16),
                                            ::testing::Bool()),
                         guard_case_name);

// The guards themselves notice what they are there for.
TEST(Memory, SeesAWriteBesideABlockAndAChangedInput) {
  Memory memory(Guard::bands);
  std::byte* block = memory.take(40, 64);
  block[39] = std::byte{1};
  EXPECT_EQ(memory.violation(), "");
  block[40] = std::byte{1};
  EXPECT_NE(memory.violation(), "");
  block[40] = std::byte{0xff};
  block[-1] = std::byte{1};
  EXPECT_NE(memory.violation(), "");
  block[-1] = std::byte{0xff};
  memory.freeze();
  EXPECT_EQ(memory.violation(), "");
  block[0] = std::byte{2};
  EXPECT_NE(memory.violation(), "");
}

TEST(MemoryDeathTest, PagesBesideABlockFault) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Memory memory(Guard::page_after);
        volatile std::byte* block = memory.take(40, 4);
        block[40] = std::byte{1};
      },
      "");
  EXPECT_DEATH(
      {
        Memory memory(Guard::page_before);
        volatile std::byte* block = memory.take(40, 4);
        block[-1] = std::byte{1};
      },
      "");
}

}  // namespace
}  // namespace fusedmlp::test
