// Streams, graphs, threads and workspaces: every way to queue a run gives the bits of one run alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <thread>

#include "core/kernel.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"

namespace fusedmlp::test {
namespace {

MlpSpec make_spec(DType dtype, bool gated) {
  MlpSpec spec;
  spec.dtype = dtype;
  spec.gated = gated;
  spec.activation = gated ? Activation::silu : Activation::gelu;
  spec.d_in = 136;
  spec.d_hidden = 264;
  spec.d_out = 72;
  spec.bias_up = spec.bias_down = true;
  return spec;
}

constexpr std::int64_t kMost = 300;
constexpr std::int64_t kFew = 64;  // for the entries that take no more

// For every entry of the GPU: one plan of it, and what it gives when it runs alone.
class Streams : public ::testing::TestWithParam<MlpSpec> {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    problem_.emplace(GetParam(), make_values(GetParam(), kMost, Data::normal, 3), kMost);
  }
  // body(plan, most tokens) for every entry.
  template <class Body>
  void for_each_kernel(const Body& body) {
    const std::vector<std::string> many = gpu_kernels(GetParam(), kMost);
    for (const std::string& kernel : gpu_kernels(GetParam(), kFew)) {
      SCOPED_TRACE(kernel);
      const Forced forced({Isa::generic, kernel, false, Device::cuda()});
      const Plan plan = problem_->plan();
      body(plan, std::find(many.begin(), many.end(), kernel) == many.end() ? kFew : kMost);
      if (HasFailure()) return;
    }
  }
  std::vector<std::byte> alone(const Plan& plan, std::int64_t tokens) {
    const Stream stream;
    problem_->poison_y();
    expect_ok(plan.run(problem_->args(tokens, stream)));
    EXPECT_EQ(stream.wait(), "");
    return problem_->y(tokens);
  }

  // Threads run one plan on rows of their own, on one stream or on one each.
  void eight_threads(bool one_stream) {
    constexpr int kThreads = 8;
    for_each_kernel([&](const Plan& plan, std::int64_t most) {
      const std::int64_t tokens = most / kThreads;
      for (int t = 0; t < kThreads; ++t) {
        const Stream stream;
        expect_ok(plan.run(problem_->args(tokens, stream, t * tokens)));
        EXPECT_EQ(stream.wait(), "");
      }
      const std::vector<std::byte> want = problem_->y(kThreads * tokens);
      problem_->poison_y();
      const Stream shared;
      std::atomic<int> failed{0};
      std::vector<std::thread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          // On the shared stream a run is the first that these threads ask CUDA for.
          std::optional<Stream> own;
          if (!one_stream) own.emplace();
          const Stream& stream = one_stream ? shared : *own;
          for (int i = 0; i < 20; ++i) {
            if (!plan.run(problem_->args(tokens, stream, t * tokens)).ok()) ++failed;
          }
          if (!stream.wait().empty()) ++failed;
        });
      }
      for (std::thread& thread : threads) thread.join();
      EXPECT_EQ(failed, 0);
      EXPECT_EQ(problem_->y(kThreads * tokens), want);
    });
  }

  std::optional<Resident> problem_;
};

TEST_P(Streams, OneGraphReplaysAndAPlanRunsBesideIt) {
  for_each_kernel([&](const Plan& plan, std::int64_t most) {
    const Stream stream;
    // Captured before anything of this plan ran; the arena is allocated inside the capture.
    const Graph graph(stream, [&] { expect_ok(plan.run(problem_->args(most, stream))); });
    const std::vector<std::byte> want = alone(plan, most);
    for (int i = 0; i < 3; ++i) {
      problem_->poison_y();
      graph.replay(stream);
      EXPECT_EQ(stream.wait(), "");
      EXPECT_EQ(problem_->y(most), want);
      EXPECT_EQ(alone(plan, most), want);
    }
    // A capture that never runs leaves nothing behind.
    {
      const Graph unused(stream, [&] { expect_ok(plan.run(problem_->args(7, stream))); });
    }
    EXPECT_EQ(alone(plan, most), want);
  });
}

// Ten runs one after another on one stream are one chain of kernels: no memory operation, no synchronisation.
TEST_P(Streams, ARunIsKernelsAlone) {
  for_each_kernel([&](const Plan& plan, std::int64_t most) {
    const Stream stream;
    const DeviceBuffer workspace(plan.workspace_bytes(most));
    const auto run = [&] {
      RunArgs args = problem_->args(most, stream);
      args.workspace = workspace.data();
      args.workspace_bytes = workspace.size();
      expect_ok(plan.run(args));
    };
    const Graph one(stream, run);
    const Graph ten(stream, [&] {
      for (int i = 0; i < 10; ++i) run();
    });
    EXPECT_GE(one.nodes(), 1u);
    EXPECT_LE(one.nodes(), 4u);
    EXPECT_EQ(ten.nodes(), 10 * one.nodes());
  });
}

TEST_P(Streams, EightThreadsWithAStreamEach) { eight_threads(false); }

// Their launches must not fall between each other's: all use the plan's one workspace of that stream.
TEST_P(Streams, EightThreadsOnOneStream) { eight_threads(true); }

// Changing shapes on one dirty workspace, queued without waiting.
TEST_P(Streams, SoakOnOneWorkspace) {
  const char* text = std::getenv("FUSEDMLP_SOAK");
  const int launches = text == nullptr ? 2000 : std::atoi(text);
  for_each_kernel([&](const Plan& plan, std::int64_t most) {
    const Stream stream;
    std::vector<std::int64_t> sizes = {1, 2, 5, 16, 17, 33, 64, 65, 128, 129, 200, kMost};
    std::erase_if(sizes, [&](std::int64_t tokens) { return tokens > most; });
    std::vector<std::vector<std::byte>> want;
    for (const std::int64_t tokens : sizes) want.push_back(alone(plan, tokens));
    const DeviceBuffer workspace(plan.workspace_bytes(most));
    expect_ok(cudaMemset(workspace.data(), 0xff, workspace.size()));
    expect_ok(cudaDeviceSynchronize());
    Random random(17);
    for (int i = 0; i < launches; ++i) {
      const auto which = static_cast<std::size_t>(random.below(sizes.size()));
      RunArgs args = problem_->args(sizes[which], stream);
      args.workspace = workspace.data();
      args.workspace_bytes = workspace.size();
      expect_ok(plan.run(args));
      if (i % 97 != 0) continue;
      ASSERT_EQ(stream.wait(), "");
      ASSERT_EQ(problem_->y(sizes[which]), want[which]) << "launch " << i;
    }
    EXPECT_EQ(stream.wait(), "");
  });
}

INSTANTIATE_TEST_SUITE_P(Specs, Streams,
                         ::testing::Values(make_spec(DType::f32, true), make_spec(DType::bf16, false),
                                           make_spec(DType::bf16, true), make_spec(DType::f16, true)),
                         [](const auto& p) {
                           return std::string(to_string(p.param.dtype)) + (p.param.gated ? "_gated" : "_plain");
                         });

TEST(StatelessRun, AsksForAWorkspaceAndSaysHowMuch) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  MlpSpec spec = make_spec(DType::bf16, true);
  spec.d_in = 264;  // too wide for the entries that need no workspace
  const Resident problem(spec, make_values(spec, 40, Data::normal, 5), 40);
  const Stream stream;
  RunArgs args = problem.args(40, stream);
  const Result<Selection> selection = select(spec, problem.weights(), nullptr, args, Device::cuda());
  ASSERT_TRUE(selection.ok()) << selection.status().to_string();
  const std::size_t bytes = selection->workspace_bytes;
  ASSERT_GT(bytes, 0u);
  EXPECT_GT(selection->seconds, 0);
  EXPECT_GT(selection->library_seconds, 0);
  const Status without = run(spec, problem.weights(), nullptr, args, Device::cuda());
  EXPECT_EQ(without.code(), StatusCode::invalid_argument);
  EXPECT_EQ(without.argument(), "workspace");
  const DeviceBuffer workspace(bytes);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes - 1;
  EXPECT_EQ(run(spec, problem.weights(), nullptr, args, Device::cuda()).argument(), "workspace_bytes");
  args.workspace_bytes = bytes;
  EXPECT_TRUE(run(spec, problem.weights(), nullptr, args, Device::cuda()).ok());
  EXPECT_EQ(stream.wait(), "");
  EXPECT_EQ(packed_bytes(spec, Device::cuda()), 0u);
}

}  // namespace
}  // namespace fusedmlp::test
