#include "fusedmlp/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/execute.h"
#include "unit/fixtures.h"

namespace fusedmlp {
namespace {

using core::AlignedBuffer;
using test::Elements;
using test::Layout;
using test::Member;
using test::Mlp;
using test::ScopedEnv;
using test::small_integers;
using test::uniform;

MlpSpec spec_of(const char* text) { return parse_spec(text).value(); }

// Runs tasks one after another on the calling thread.
class Serial final : public Executor {
 public:
  int concurrency() const noexcept override { return 1; }
  void parallel(int count, void (*task)(void*, int), void* context) override {
    calls += count;
    for (int i = 0; i < count; ++i) task(context, i);
  }
  int calls = 0;
};

class PlanRun : public ::testing::Test {
 protected:
  static constexpr std::int64_t kTokens = 4;

  PlanRun()
      : spec_(spec_of("relu:8x16->6+bias")), mlp_(spec_, small_integers()), x_(make_x(spec_, 8, small_integers())) {}

  Plan make() const { return Plan::create(spec_, mlp_.weights).value(); }

  RunArgs args() {
    RunArgs args;
    args.x = x_.data();
    args.y = y_.data();
    args.tokens = kTokens;
    return args;
  }

  static void expect_wrong(const Status& status, const char* argument, const std::string& part) {
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << status.to_string();
    EXPECT_EQ(status.argument(), argument) << status.to_string();
    EXPECT_NE(status.message().find(part), std::string::npos) << status.to_string();
  }

  MlpSpec spec_;
  Mlp mlp_;
  Elements x_;
  Elements y_{DType::f32, 8 * 16};
};

TEST_F(PlanRun, CreateRefusesWhatValidateRefuses) {
  MlpWeights weights = mlp_.weights;
  weights.down.rows = 5;
  const Result<Plan> plan = Plan::create(spec_, weights);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().to_string(), "invalid_argument: down: must be [6, 16] ([out, in]), got [5, 16]");
  EXPECT_EQ(Plan::create(spec_, mlp_.weights, Device::cuda(4000)).status().code(), StatusCode::unavailable);
  const ScopedEnv isa("FUSEDMLP_ISA", "vax");
  EXPECT_EQ(Plan::create(spec_, mlp_.weights).status().argument(), "FUSEDMLP_ISA");
}

TEST_F(PlanRun, KnowsWhatItWasMadeFrom) {
  const Plan plan = make();
  EXPECT_EQ(plan.spec(), spec_);
  EXPECT_EQ(plan.device(), Device::cpu());
  EXPECT_EQ(plan.packed_bytes(), packed_bytes(spec_));
  PlanOptions unpacked;
  unpacked.pack = false;
  EXPECT_EQ(Plan::create(spec_, mlp_.weights, Device::cpu(), unpacked).value().packed_bytes(), 0u);
}

TEST_F(PlanRun, WrongArgumentsAreNamed) {
  const Plan plan = make();
  RunArgs a = args();
  a.tokens = -3;
  EXPECT_EQ(plan.run(a).to_string(), "invalid_argument: tokens: must be >= 0, got -3");
  a = args();
  a.x = nullptr;
  EXPECT_EQ(plan.run(a).to_string(), "invalid_argument: x: is null with 4 tokens");
  a = args();
  a.y = nullptr;
  EXPECT_EQ(plan.run(a).to_string(), "invalid_argument: y: is null with 4 tokens");
  for (const std::int64_t stride : {7, 1, -8}) {
    a = args();
    a.ldx = stride;
    expect_wrong(plan.run(a), "ldx", "must be 0 or at least 8, got " + std::to_string(stride));
  }
  a = args();
  a.ldy = 5;
  expect_wrong(plan.run(a), "ldy", "must be 0 or at least 6, got 5");
  a = args();
  a.x = static_cast<const char*>(a.x) + 1;
  expect_wrong(plan.run(a), "x", "must be aligned to the 4 bytes of a fp32 element");
  a = args();
  a.y = static_cast<char*>(a.y) + 2;
  expect_wrong(plan.run(a), "y", "must be aligned to the 4 bytes of a fp32 element");
  a = args();
  a.tokens = std::numeric_limits<std::int64_t>::max();
  expect_wrong(plan.run(a), "tokens", "do not fit into memory");
  a = args();
  a.ldy = std::int64_t{1} << 62;
  expect_wrong(plan.run(a), "tokens", "do not fit into memory");
  EXPECT_TRUE(plan.run(args()).ok());
}

TEST_F(PlanRun, NoTokensTouchesNothing) {
  const Plan plan = make();
  EXPECT_TRUE(plan.run(nullptr, nullptr, 0).ok());
  const std::vector<std::byte> before = y_.bytes();
  EXPECT_TRUE(plan.run(x_.data(), y_.data(), 0).ok());
  EXPECT_EQ(y_.bytes(), before);
  EXPECT_EQ(plan.workspace_bytes(0), 0u);
}

TEST_F(PlanRun, OverlapsAreRefused) {
  const Plan plan = make();
  Elements both(DType::f32, 256);
  float* base = static_cast<float*>(both.data());
  const auto at = [&](const float* x, float* y, std::int64_t ldx, std::int64_t ldy) {
    RunArgs a = args();
    a.x = x;
    a.y = y;
    a.ldx = ldx;
    a.ldy = ldy;
    return plan.run(a);
  };
  expect_wrong(at(base, base, 0, 0), "y", "overlaps x");
  expect_wrong(at(base, base + 31, 0, 0), "y", "overlaps x");  // the last element of x
  EXPECT_TRUE(at(base, base + 32, 0, 0).ok());
  expect_wrong(at(base + 23, base, 0, 0), "y", "overlaps x");  // the last element of y
  EXPECT_TRUE(at(base + 24, base, 0, 0).ok());
  expect_wrong(at(base, base + 32, 20, 0), "y", "overlaps x");  // strides widen the ranges
  expect_wrong(at(base + 24, base, 0, 20), "y", "overlaps x");

  const std::pair<const char*, const void*> members[] = {{"up", mlp_.weights.up.data},
                                                         {"down", mlp_.weights.down.data},
                                                         {"bias_up", mlp_.weights.bias_up.data},
                                                         {"bias_down", mlp_.weights.bias_down.data}};
  for (const auto& [name, data] : members) {
    RunArgs a = args();
    a.y = const_cast<void*>(data);
    expect_wrong(plan.run(a), "y", std::string("overlaps ") + name);
  }
}

TEST_F(PlanRun, TheCallersWorkspaceIsChecked) {
  const ScopedEnv forced("FUSEDMLP_KERNEL", "reference");  // whose need is known: the hidden
  const Plan plan = make();
  const std::size_t need = plan.workspace_bytes(kTokens);
  ASSERT_EQ(need, 4u * 16 * 4);
  const AlignedBuffer memory(2 * need + 64);
  RunArgs a = args();
  a.workspace = memory.data();
  a.workspace_bytes = need;
  EXPECT_TRUE(plan.run(a).ok());
  a.workspace_bytes = need - 1;
  expect_wrong(plan.run(a), "workspace_bytes", "reference needs at least 256 bytes for 4 tokens");
  a.workspace = static_cast<char*>(memory.data()) + 4;
  a.workspace_bytes = need;
  expect_wrong(plan.run(a), "workspace", "must be 64-byte aligned");
  a.workspace = memory.data();
  a.y = memory.data();
  expect_wrong(plan.run(a), "workspace", "overlaps y");
  a = args();
  a.workspace = memory.data();
  a.workspace_bytes = need;
  a.x = static_cast<char*>(memory.data()) + need - 4;
  expect_wrong(plan.run(a), "workspace", "overlaps x");
  a.x = static_cast<char*>(memory.data()) + need;
  EXPECT_TRUE(plan.run(a).ok());
}

TEST_F(PlanRun, WorkspaceServesEveryChoiceUpToTheDefaultThreads) {
  for (const char* text : {"gelu:64x256", "geglu:96x200,bf16", "swiglu:768x1024,fp16"}) {
    const MlpSpec spec = spec_of(text);
    const Mlp mlp(spec, uniform());
    const Plan plan = Plan::create(spec, mlp.weights).value();
    for (const std::int64_t tokens : {1, 5, 70}) {
      const AlignedBuffer memory(plan.workspace_bytes(tokens));
      const Elements x = make_x(spec, tokens, uniform());
      Elements y(spec.dtype, tokens * spec.d_out);
      Serial serial;
      for (Executor* executor : {static_cast<Executor*>(nullptr), static_cast<Executor*>(&serial)}) {
        RunArgs a;
        a.x = x.data();
        a.y = y.data();
        a.tokens = tokens;
        a.executor = executor;
        a.workspace = memory.data();
        a.workspace_bytes = memory.size();
        const Status status = plan.run(a);
        EXPECT_TRUE(status.ok()) << status.to_string();
      }
    }
  }
}

// As an adapter's is whose pool serves others too: more threads each time it is asked.
struct Growing final : Executor {
  mutable int asked = 0;
  int concurrency() const noexcept override { return ++asked == 1 ? 1 : 16; }
  void parallel(int count, void (*task)(void* context, int index), void* context) override {
    for (int i = 0; i < count; ++i) task(context, i);
  }
};

TEST_F(PlanRun, AnExecutorThatGrowsStaysWithinTheWorkspace) {
  const MlpSpec spec = spec_of("gelu:512x2048");
  const Mlp mlp(spec, uniform());
  const Plan plan = Plan::create(spec, mlp.weights).value();
  for (const std::int64_t tokens : {1, 4, 20, 70}) {
    const Elements x = make_x(spec, tokens, uniform());
    Elements y(spec.dtype, tokens * spec.d_out);
    RunArgs a;
    a.x = x.data();
    a.y = y.data();
    a.tokens = tokens;
    Serial serial;
    a.executor = &serial;
    const AlignedBuffer memory(std::size_t{16} << 20);
    a.workspace = memory.data();
    a.workspace_bytes = 0;
    const std::string needs = plan.run(a).to_string();  // "... needs at least N bytes ..."
    const std::size_t bytes = std::stoul(needs.substr(needs.find("at least ") + 9));
    ASSERT_LT(bytes, memory.size());
    auto* rest = static_cast<unsigned char*>(memory.data()) + bytes;
    std::fill_n(rest, memory.size() - bytes, 0x5a);
    Growing growing;
    a.executor = &growing;
    a.workspace_bytes = bytes;
    EXPECT_TRUE(plan.run(a).ok());
    EXPECT_EQ(std::count(rest, rest + memory.size() - bytes, 0x5a),
              static_cast<std::ptrdiff_t>(memory.size() - bytes))
        << tokens << " tokens";
  }
}

TEST_F(PlanRun, TheCallersExecutorIsUsed) {
  const ScopedEnv forced("FUSEDMLP_KERNEL", "reference");
  Serial serial;
  RunArgs a = args();
  a.executor = &serial;
  EXPECT_TRUE(make().run(a).ok());
  EXPECT_GT(serial.calls, 0);
}

TEST_F(PlanRun, StridedRowsGiveTheSameAndLeaveGapsAlone) {
  const Plan plan = make();
  Elements dense(DType::f32, kTokens * 6);
  ASSERT_TRUE(plan.run(x_.data(), dense.data(), kTokens).ok());
  Elements wide(DType::f32, kTokens * 11 + 1);
  for (std::int64_t i = 0; i < kTokens * 8; ++i) wide.set(1 + i / 8 * 11 + i % 8, x_.get(i));
  for (std::int64_t i = 0; i < 8 * 16; ++i) y_.set(i, -7.0f);
  RunArgs a = args();
  a.x = static_cast<float*>(wide.data()) + 1;
  a.ldx = 11;
  a.ldy = 9;
  ASSERT_TRUE(plan.run(a).ok());
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t c = 0; c < 9; ++c) {
      EXPECT_EQ(y_.get(t * 9 + c), c < 6 ? dense.get(t * 6 + c) : -7.0f) << t << "," << c;
    }
  }
}

TEST_F(PlanRun, UpdateWeightsIsSeen) {
  const Mlp other(spec_, small_integers(77));
  Elements expected(DType::f32, kTokens * 6);
  ASSERT_TRUE(Plan::create(spec_, other.weights).value().run(x_.data(), expected.data(), kTokens).ok());
  Plan plan = make();
  Elements y(DType::f32, kTokens * 6);
  ASSERT_TRUE(plan.run(x_.data(), y.data(), kTokens).ok());
  ASSERT_NE(y.bytes(), expected.bytes());
  ASSERT_TRUE(plan.update_weights(other.weights).ok());
  ASSERT_TRUE(plan.run(x_.data(), y.data(), kTokens).ok());
  EXPECT_EQ(y.bytes(), expected.bytes());

  MlpWeights wrong = mlp_.weights;
  wrong.up.data = nullptr;
  EXPECT_EQ(plan.update_weights(wrong).argument(), "up");
  ASSERT_TRUE(plan.run(x_.data(), y.data(), kTokens).ok());
  EXPECT_EQ(y.bytes(), expected.bytes()) << "a refused update changes nothing";
}

TEST_F(PlanRun, InPlaceChangesAreSeenAfterUpdate) {
  Plan plan = make();
  Elements before(DType::f32, kTokens * 6);
  ASSERT_TRUE(plan.run(x_.data(), before.data(), kTokens).ok());
  float* bias = static_cast<float*>(const_cast<void*>(mlp_.weights.bias_down.data));
  for (int i = 0; i < 6; ++i) bias[i] += 100.0f;
  ASSERT_TRUE(plan.update_weights(mlp_.weights).ok());
  Elements after(DType::f32, kTokens * 6);
  ASSERT_TRUE(plan.run(x_.data(), after.data(), kTokens).ok());
  for (std::int64_t i = 0; i < kTokens * 6; ++i) EXPECT_EQ(after.get(i), before.get(i) + 100.0f);
}

TEST_F(PlanRun, AMovedFromPlanSaysSo) {
  Plan plan = make();
  Plan moved = std::move(plan);
  EXPECT_TRUE(moved.run(args()).ok());
  EXPECT_EQ(plan.run(args()).to_string(), "invalid_argument: plan: was moved from");
  EXPECT_EQ(plan.update_weights(mlp_.weights).to_string(), "invalid_argument: plan: was moved from");
  plan = std::move(moved);
  EXPECT_TRUE(plan.run(args()).ok());
}

TEST_F(PlanRun, ThreadsShareOnePlan) {
  const MlpSpec spec = spec_of("geglu:64x96+bias,bf16");
  const Mlp mlp(spec, uniform(9));
  const Plan plan = Plan::create(spec, mlp.weights).value();
  constexpr std::int64_t kCounts[] = {1, 7, 40};
  const Elements x = make_x(spec, 40, uniform(9));
  const auto run = [&](std::int64_t tokens) {
    Serial serial;
    Elements y(spec.dtype, tokens * spec.d_out);
    RunArgs a;
    a.x = x.data();
    a.y = y.data();
    a.tokens = tokens;
    a.executor = &serial;
    const Status status = plan.run(a);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return y.bytes();
  };
  std::vector<std::vector<std::byte>> expected;
  for (const std::int64_t tokens : kCounts) expected.push_back(run(tokens));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (std::size_t round = 0; round < 12; ++round) {
        const std::size_t which = (round + i) % 3;
        if (run(kCounts[which]) != expected[which]) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(PlanRun, HugeRequestsAreOutOfMemory) {
  MlpSpec spec = spec_of("gelu:16777216x16777216");  // 2 PiB of weights that are never read
  const float some = 0;
  MlpWeights weights;
  weights.up = MatrixView::out_in(&some, kMaxWidth, kMaxWidth);
  weights.down = weights.up;
  if (packed_bytes(spec) == 0) {
    EXPECT_TRUE(Plan::create(spec, weights).ok());
  } else {
    EXPECT_EQ(Plan::create(spec, weights).status().code(), StatusCode::out_of_memory);
  }
}

TEST_F(PlanRun, ExplainNamesTheKernelThatRuns) {
  const Plan plan = make();
  const std::string text = plan.explain(3);
  EXPECT_TRUE(text.starts_with("relu:8x16->6+bias, 3 tokens, cpu (")) << text;
  EXPECT_NE(text.find("physical limit"), std::string::npos);
  EXPECT_NE(text.find("\n* "), std::string::npos);
  EXPECT_NE(text.find("reference"), std::string::npos);
  EXPECT_EQ(explain(spec_, 3).value(), text);
  EXPECT_EQ(plan.explain(-1), "invalid_argument: tokens: must be >= 0, got -1\n");
  EXPECT_EQ(explain(spec_, -1).status().argument(), "tokens");
  MlpSpec wrong = spec_;
  wrong.d_out = 0;
  EXPECT_EQ(explain(wrong, 1).status().argument(), "d_out");
  const ScopedEnv forced("FUSEDMLP_KERNEL", "nonsense");
  EXPECT_TRUE(plan.explain(3).starts_with("invalid_argument: FUSEDMLP_KERNEL: got \"nonsense\", accepted: "));
  EXPECT_EQ(plan.run(args()).argument(), "FUSEDMLP_KERNEL");
  EXPECT_EQ(plan.workspace_bytes(3), 0u);
}

TEST(Version, HasThreeNumbers) {
  int major = 0, minor = 0, patch = 0;
  char rest = 0;
  EXPECT_EQ(std::sscanf(version(), "%d.%d.%d%c", &major, &minor, &patch, &rest), 3) << version();
}

TEST(Buffer, IsAlignedAndRounded) {
  EXPECT_EQ(AlignedBuffer().data(), nullptr);
  EXPECT_EQ(AlignedBuffer(0).size(), 0u);
  const AlignedBuffer small(1);
  EXPECT_EQ(small.size(), 64u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(small.data()) % 64, 0u);
  const AlignedBuffer large((std::size_t{2} << 20) + 1);
  EXPECT_EQ(large.size(), std::size_t{4} << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large.data()) % (std::size_t{2} << 20), 0u);
  EXPECT_THROW(AlignedBuffer{std::numeric_limits<std::size_t>::max()}, std::bad_alloc);
  EXPECT_THROW(AlignedBuffer{std::numeric_limits<std::size_t>::max() / 2}, std::bad_alloc);
}

}  // namespace
}  // namespace fusedmlp
