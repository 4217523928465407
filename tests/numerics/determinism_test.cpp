// Same input, machine, kernel and thread count: same bits, from any number of threads at once.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "core/aligned_buffer.h"
#include "cpu/thread_pool.h"
#include "numerics/problem.h"

namespace fusedmlp::test {
namespace {

MlpSpec make_spec(DType dtype, bool gated) {
  MlpSpec spec;
  spec.dtype = dtype;
  spec.gated = gated;
  spec.activation = gated ? Activation::silu : Activation::gelu;
  spec.d_in = 65;
  spec.d_hidden = 200;
  spec.d_out = 70;
  spec.bias_down = true;
  return spec;
}

const MlpSpec kSpecs[] = {make_spec(DType::f32, false), make_spec(DType::f32, true), make_spec(DType::bf16, false),
                          make_spec(DType::bf16, true), make_spec(DType::f16, true)};
constexpr std::int64_t kTokens[] = {1, 8, 37, 130};

class ThreadCounts : public ::testing::TestWithParam<int> {};

// Accurate with any pool, and bit for bit the same when run again with the same one.
TEST_P(ThreadCounts, AccurateAndRepeatable) {
  const std::unique_ptr<Executor> pool = cpu::make_thread_pool(GetParam());
  ASSERT_EQ(pool->concurrency(), GetParam());
  for (const MlpSpec& spec : kSpecs) {
    for (const std::int64_t tokens : kTokens) {
      if (FUSEDMLP_SANITIZED && tokens > 40) continue;
      Memory memory;
      const Placed placed =
          place(spec, make_values(spec, tokens, Data::normal, 2), tokens, {.aligned = true}, memory);
      const core::Truth truth =
          core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, tokens, core::Roundings::fused);
      double reference_norm = -1;
      for (const Way& way : ways(spec, placed, tokens)) {
        SCOPED_TRACE(to_string(spec) + ", tokens " + std::to_string(tokens) + ", " + to_string(way));
        const std::vector<std::byte> first = run(way, spec, placed, tokens, pool.get());
        const core::Deviation d = core::compare(truth, spec, first.data(), 0, tokens);
        if (reference_norm < 0) reference_norm = d.norm;
        if (!way.is_reference()) {
          EXPECT_LE(d.worst_ratio, 1);
        }
        EXPECT_LE(d.norm, core::norm_limit(spec, tokens, reference_norm));
        for (int again = 0; again < 3; ++again) {
          ASSERT_EQ(run(way, spec, placed, tokens, pool.get()), first) << "run " << again;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pools, ThreadCounts, ::testing::Values(1, 2, 3, 8));

// One plan, eight threads, each with its own x and y; some with a workspace of their own, some with the plan's arena.
// A pool of one thread in each and the library's shared pool: both must give what one caller alone gets.
class SharedPlan : public ::testing::TestWithParam<bool> {};

TEST_P(SharedPlan, EightThreadsGetTheBitsOfOne) {
  constexpr int kThreads = 8;
  constexpr int kRuns = FUSEDMLP_SANITIZED ? 6 : 40;
  const bool own_pools = GetParam();
  for (const MlpSpec& spec : {kSpecs[0], kSpecs[3]}) {
    constexpr std::int64_t kMost = 37;
    Memory memory;
    const Placed placed = place(spec, make_values(spec, kMost, Data::normal, 5), kMost, {}, memory);
    const std::size_t row = static_cast<std::size_t>(spec.d_out) * size_of(spec.dtype);
    for (const Way& way : cpu_ways(spec, kMost)) {
      SCOPED_TRACE(to_string(spec) + ", " + to_string(way));
      const Forced forced(way);  // read by all threads, changed by none
      PlanOptions options;
      options.pack = way.packed;
      const Result<Plan> plan = Plan::create(spec, placed.weights, Device::cpu(), options);
      ASSERT_TRUE(plan.ok()) << plan.status().to_string();
      const auto run_once = [&](std::int64_t tokens, bool own_workspace, Executor* executor,
                                std::vector<std::byte>& y) {
        y.assign(static_cast<std::size_t>(tokens) * row, std::byte{0xff});
        RunArgs args;
        args.x = placed.x;
        args.ldx = placed.ldx;
        args.y = y.data();
        args.tokens = tokens;
        args.executor = executor;
        core::AlignedBuffer workspace;
        if (own_workspace) {
          workspace = core::AlignedBuffer(plan->workspace_bytes(tokens));
          args.workspace = workspace.data();
          args.workspace_bytes = workspace.size();
        }
        return plan->run(args).ok();
      };
      const std::int64_t sizes[] = {1, 7, kMost};
      std::vector<std::byte> want[3];
      const std::unique_ptr<Executor> alone = own_pools ? cpu::make_thread_pool(1) : nullptr;
      for (int i = 0; i < 3; ++i) ASSERT_TRUE(run_once(sizes[i], true, alone.get(), want[i]));

      std::atomic<int> wrong{0}, failed{0};
      std::vector<std::thread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          const std::unique_ptr<Executor> pool = own_pools ? cpu::make_thread_pool(1) : nullptr;
          std::vector<std::byte> y;
          for (int i = 0; i < kRuns; ++i) {
            const int which = (t + i) % 3;
            if (!run_once(sizes[which], (t + i / 3) % 2 == 0, pool.get(), y)) ++failed;
            if (y != want[which]) ++wrong;
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      EXPECT_EQ(failed, 0);
      EXPECT_EQ(wrong, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Executors, SharedPlan, ::testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "own_pools" : "shared_pool"); });

}  // namespace
}  // namespace fusedmlp::test
