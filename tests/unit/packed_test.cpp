#include "fusedmlp/packed.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/aligned_buffer.h"
#include "unit/fixtures.h"

namespace fusedmlp {
namespace {

using core::AlignedBuffer;
using test::Elements;
using test::Layout;
using test::Mlp;
using test::ScopedEnv;
using test::small_integers;
using test::uniform;

MlpSpec spec_of(const char* text) { return parse_spec(text).value(); }

RunArgs args_of(const Elements& x, Elements& y, std::int64_t tokens) {
  RunArgs args;
  args.x = x.data();
  args.y = y.data();
  args.tokens = tokens;
  return args;
}

TEST(Packed, BytesMatchThePlansCopy) {
  for (const char* text : {"gelu:8x16", "geglu:64x100->33,bf16", "swiglu:3x5+bias,fp16"}) {
    const MlpSpec spec = spec_of(text);
    const Mlp mlp(spec, uniform());
    EXPECT_EQ(packed_bytes(spec), Plan::create(spec, mlp.weights).value().packed_bytes()) << text;
  }
  MlpSpec wrong = spec_of("gelu:8x16");
  wrong.d_in = 0;
  EXPECT_EQ(packed_bytes(wrong), 0u);
  EXPECT_EQ(packed_bytes(spec_of("gelu:8x16"), Device::cuda(4000)), 0u);
}

TEST(Packed, RunsLikeAPlan) {
  for (const char* text : {"relu:8x16->6+bias", "reglu:40x70+bias,bf16", "relu2:5x3,fp16"}) {
    const MlpSpec spec = spec_of(text);
    const Mlp mlp(spec, small_integers(2));
    const std::int64_t tokens = 21;
    const Elements x = make_x(spec, tokens, small_integers(2));
    Elements planned(spec.dtype, tokens * spec.d_out);
    ASSERT_TRUE(Plan::create(spec, mlp.weights).value().run(x.data(), planned.data(), tokens).ok());

    const AlignedBuffer packed(packed_bytes(spec));
    ASSERT_TRUE(pack(spec, mlp.weights, packed.data()).ok());
    Elements with(spec.dtype, tokens * spec.d_out);
    Elements without(spec.dtype, tokens * spec.d_out);
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(run(spec, mlp.weights, packed.data(), args_of(x, with, tokens)).ok());
      ASSERT_TRUE(run(spec, mlp.weights, nullptr, args_of(x, without, tokens)).ok());
      EXPECT_EQ(with.bytes(), planned.bytes()) << text;
      EXPECT_EQ(without.bytes(), planned.bytes()) << text << ", packed on the fly";
    }
  }
}

TEST(Packed, PackRefusesBadPointers) {
  const MlpSpec spec = spec_of("gelu:8x16");
  const Mlp mlp(spec, uniform());
  if (packed_bytes(spec) == 0) {  // no kernel here packs: nothing is written, so nothing is asked for
    EXPECT_TRUE(pack(spec, mlp.weights, nullptr).ok());
    return;
  }
  EXPECT_EQ(pack(spec, mlp.weights, nullptr).argument(), "packed");
  const AlignedBuffer memory(packed_bytes(spec) + 64);
  const Status misaligned = pack(spec, mlp.weights, static_cast<char*>(memory.data()) + 4);
  EXPECT_EQ(misaligned.argument(), "packed");
  EXPECT_NE(misaligned.message().find("aligned to 64"), std::string::npos);
  RunArgs args;
  const Elements x = make_x(spec, 2, uniform());
  Elements y(spec.dtype, 2 * spec.d_out);
  args = args_of(x, y, 2);
  EXPECT_EQ(run(spec, mlp.weights, static_cast<char*>(memory.data()) + 4, args).argument(), "packed");
  args.y = memory.data();
  const Status overlap = run(spec, mlp.weights, memory.data(), args);
  EXPECT_EQ(overlap.argument(), "y");
  EXPECT_NE(overlap.message().find("overlaps packed"), std::string::npos) << overlap.to_string();
}

TEST(Packed, EveryCallChecksItsWeights) {
  const MlpSpec spec = spec_of("gelu:8x16");
  const Mlp mlp(spec, uniform());
  MlpWeights wrong = mlp.weights;
  wrong.up.cols = 9;
  const Elements x = make_x(spec, 2, uniform());
  Elements y(spec.dtype, 2 * spec.d_out);
  EXPECT_EQ(run(spec, wrong, nullptr, args_of(x, y, 2)).argument(), "up");
  const AlignedBuffer packed(packed_bytes(spec) + 64);
  EXPECT_EQ(pack(spec, wrong, packed.data()).argument(), "up");
  EXPECT_EQ(run(spec, mlp.weights, nullptr, args_of(x, y, -1)).argument(), "tokens");
  EXPECT_EQ(run(spec, mlp.weights, nullptr, args_of(x, y, 2), Device::cuda(4000)).code(), StatusCode::unavailable);
  EXPECT_TRUE(run(spec, mlp.weights, nullptr, RunArgs()).ok()) << "no tokens";
  const ScopedEnv isa("FUSEDMLP_ISA", "vax");
  EXPECT_EQ(run(spec, mlp.weights, nullptr, args_of(x, y, 2)).argument(), "FUSEDMLP_ISA");
}

// An executor whose tasks are under way inside a run when another run starts on the same thread.
class Nesting final : public Executor {
 public:
  explicit Nesting(std::function<void()> inner) : inner_(std::move(inner)) {}
  int concurrency() const noexcept override { return 1; }
  void parallel(int count, void (*task)(void*, int), void* context) override {
    for (int i = 0; i < count; ++i) {
      inner_();
      task(context, i);
    }
  }

 private:
  std::function<void()> inner_;
};

TEST(Packed, ARunInsideARunHasItsOwnArena) {
  const ScopedEnv forced("FUSEDMLP_KERNEL", "reference");  // which keeps its hidden in the workspace
  const MlpSpec spec = spec_of("relu:8x64->6");
  const Mlp mlp(spec, small_integers(2));
  const Mlp other(spec, small_integers(3));
  const Elements x = make_x(spec, 9, small_integers(2));
  Elements expected(spec.dtype, 9 * spec.d_out);
  ASSERT_TRUE(run(spec, mlp.weights, nullptr, args_of(x, expected, 9)).ok());

  Elements inner(spec.dtype, 9 * spec.d_out);
  Nesting nesting([&] { EXPECT_TRUE(run(spec, other.weights, nullptr, args_of(x, inner, 9)).ok()); });
  Elements outer(spec.dtype, 9 * spec.d_out);
  RunArgs args = args_of(x, outer, 9);
  args.executor = &nesting;
  ASSERT_TRUE(run(spec, mlp.weights, nullptr, args).ok());
  EXPECT_EQ(outer.bytes(), expected.bytes());
}

}  // namespace
}  // namespace fusedmlp
