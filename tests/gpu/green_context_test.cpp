// Streams with a part of the SMs: every entry is planned for those, and gives the bits of a run that was planned so
// on the whole GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dispatch.h"
#include "gpu/cards.h"
#include "gpu/green_context.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"
#include "reference/error_bound.h"

namespace fusedmlp::test {
namespace {

constexpr const char* kSpecs[] = {"swiglu:512x1536,bf16", "gelu:768x3072+bias,bf16", "gelu:256x1000->264+bias,fp16",
                                  "gelu:136x264+bias,fp32"};
constexpr std::int64_t kTokens[] = {1, 2, 16, 64, 130};

TEST(Partitions, NeedNoMoreWorkspaceThanTheWholeDevice) {
  const DeviceInfo whole = h200();
  for (const int sms : {2, 8, 16, 64, 126}) {
    const DeviceInfo part = core::partition_of(whole, sms);
    EXPECT_EQ(part.cores, sms);
    EXPECT_NE(part.name, whole.name);
    for (const char* text :
         {"geglu:768x3072,bf16", "swiglu:4096x14336,bf16", "gelu:128x512,fp16", "gelu:33x65,fp32"}) {
      const MlpSpec spec = spec_of(text);
      for (const std::int64_t tokens : {1, 2, 16, 64, 1024}) {
        const core::Query all{spec, tokens, whole, 1, false}, some{spec, tokens, part, 1, false};
        for (const core::KernelEntry& entry : core::cuda_kernels()) {
          // What run() asks for without knowing the stream is the most of the whole device's entries.
          if (!entry.unsupported(all).empty() || !entry.unsupported(some).empty()) continue;
          EXPECT_LE(entry.workspace_bytes(some), entry.workspace_bytes(all))
              << entry.name << ", " << text << ", " << tokens << " tokens, " << sms << " SMs";
        }
      }
    }
  }
}

class GreenContexts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    whole_ = describe(Device::cuda()).value();
  }
  void TearDown() override { ::unsetenv("FUSEDMLP_KERNEL"); }

  // y of the entry as it is planned for so many SMs, on a stream that has all of them.
  std::vector<std::byte> planned_for(int sms, const std::string& kernel, const Resident& problem,
                                     std::int64_t tokens) const {
    const DeviceInfo part = core::partition_of(whole_, sms);
    const MlpSpec& spec = problem.spec();
    const core::KernelEntry& entry = gpu_entry(kernel);
    const Stream stream;
    RunArgs args = problem.args(tokens, stream);
    args.ldy = spec.d_out;
    const DeviceBuffer workspace(std::max<std::size_t>(1, entry.workspace_bytes({spec, tokens, part, 1, false})));
    args.workspace = workspace.data();
    args.workspace_bytes = workspace.size();
    problem.poison_y();
    expect_ok(entry.run({spec, problem.weights(), nullptr}, args, part));
    EXPECT_EQ(stream.wait(), "");
    return problem.y(tokens);
  }
  static bool supports(const DeviceInfo& device, const std::string& kernel, const MlpSpec& spec,
                       std::int64_t tokens) {
    return gpu_entry(kernel).unsupported({spec, tokens, device, 1, false}).empty();
  }
  static std::string wait(cudaStream_t stream) {
    const cudaError_t error = cudaStreamSynchronize(stream);
    return error == cudaSuccess ? std::string() : cudaGetErrorString(error);
  }

  void expect_right(const GreenContext& green, const std::string& kernel, const Resident& problem,
                    std::int64_t tokens, const core::Truth& truth) const {
    const MlpSpec& spec = problem.spec();
    const cudaStream_t stream = green.stream();
    ::setenv("FUSEDMLP_KERNEL", kernel.c_str(), 1);
    const ::fusedmlp::Plan plan = problem.plan();
    const Stream ordinary;
    RunArgs args = problem.args(tokens, ordinary);
    args.stream = stream;
    if (!supports(core::partition_of(whole_, green.sms()), kernel, spec, tokens)) {
      EXPECT_EQ(plan.run(args).code(), StatusCode::unsupported);
      ::unsetenv("FUSEDMLP_KERNEL");  // then dispatch has another
      expect_ok(plan.run(args));
      EXPECT_EQ(wait(stream), "");
      return;
    }
    const std::vector<std::byte> want = planned_for(green.sms(), kernel, problem, tokens);
    const core::Deviation d = core::compare(truth, spec, want.data(), 0, tokens);
    EXPECT_LE(d.worst_ratio, 1);
    EXPECT_EQ(d.kind_errors, 0);
    problem.poison_y();
    for (int i = 0; i < 10; ++i) expect_ok(plan.run(args));
    EXPECT_EQ(wait(stream), "");
    EXPECT_EQ(problem.y(tokens), want);

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    expect_ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < 3; ++i) expect_ok(plan.run(args));
    expect_ok(cudaStreamEndCapture(stream, &graph));
    expect_ok(cudaGraphInstantiate(&executable, graph, 0));
    problem.poison_y();
    for (int i = 0; i < 3; ++i) expect_ok(cudaGraphLaunch(executable, stream));
    EXPECT_EQ(wait(stream), "");
    EXPECT_EQ(problem.y(tokens), want);
    expect_ok(cudaGraphExecDestroy(executable));
    expect_ok(cudaGraphDestroy(graph));
  }

  DeviceInfo whole_;
};

TEST_F(GreenContexts, TheLibrarySeesTheirSms) {
  const Stream ordinary;
  EXPECT_EQ(core::cuda_stream_cores(0, ordinary.handle()), 0);
  EXPECT_EQ(core::cuda_stream_cores(0, nullptr), 0);
  for (const unsigned sms : {16u, 64u}) {
    const GreenContext green(partition(sms).part);
    EXPECT_GE(green.sms(), static_cast<int>(sms));
    EXPECT_LT(green.sms(), whole_.cores);
    EXPECT_EQ(core::cuda_stream_cores(0, green.stream()), green.sms());
  }
}

// Directly, ten in a row without waiting, and captured and replayed.
TEST_F(GreenContexts, EveryEntryRunsOnAPartOfTheSms) {
  const GreenContext few(partition(16).part), many(partition(64).part);
  for (const char* text : kSpecs) {
    const MlpSpec spec = spec_of(text);
    for (const std::int64_t tokens : kTokens) {
      const Values values = make_values(spec, tokens, Data::normal, 9);
      const Resident problem(spec, values, tokens);
      Memory memory;
      const Placed placed = place(spec, values, tokens, {}, memory);
      const auto truth = [&](core::Roundings roundings) {
        return core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, tokens, roundings);
      };
      const core::Truth fused = truth(core::Roundings::fused), layers = truth(core::Roundings::layer_by_layer);
      for (const std::string& kernel : gpu_kernels(spec, tokens)) {
        for (const GreenContext* green : {&few, &many}) {
          SCOPED_TRACE(kernel + ", " + text + ", " + std::to_string(tokens) + " tokens, " +
                       std::to_string(green->sms()) + " SMs");
          expect_right(*green, kernel, problem, tokens, kernel == "cuda.layers" ? layers : fused);
          if (HasFailure()) return;
        }
      }
    }
  }
}

// Every entry on both parts of the GPU and on a stream with all of it, at once: none waits for another.
TEST_F(GreenContexts, TwoPartsAndTheWholeAtOnce) {
  const MlpSpec spec = spec_of("swiglu:512x1536,bf16");
  const Partition both = partition(16);
  const GreenContext part(both.part), rest(both.rest);
  EXPECT_LE(part.sms() + rest.sms(), whole_.cores);
  const Stream ordinary;
  struct Lane {
    cudaStream_t stream;
    int sms;
    std::int64_t tokens;
    std::string kernel;
    std::unique_ptr<Resident> problem;
    std::unique_ptr<::fusedmlp::Plan> plan;
    std::vector<std::byte> want;
  };
  std::vector<Lane> lanes;
  for (const std::int64_t tokens : {1, 16}) {
    for (const std::string& kernel : gpu_kernels(spec, tokens)) {
      for (const auto& [stream, sms] : {std::pair(part.stream(), part.sms()), std::pair(rest.stream(), rest.sms()),
                                        std::pair(ordinary.handle(), whole_.cores)}) {
        if (!supports(core::partition_of(whole_, sms), kernel, spec, tokens)) continue;
        Lane lane{stream, sms, tokens, kernel, nullptr, nullptr, {}};
        lane.problem = std::make_unique<Resident>(spec, make_values(spec, tokens, Data::normal, 5), tokens);
        ::setenv("FUSEDMLP_KERNEL", kernel.c_str(), 1);
        lane.plan = std::make_unique<::fusedmlp::Plan>(lane.problem->plan());
        lane.want = planned_for(sms, kernel, *lane.problem, tokens);
        lane.problem->poison_y();
        lanes.push_back(std::move(lane));
      }
    }
  }
  ASSERT_GE(lanes.size(), 6u);
  for (int round = 0; round < 200; ++round) {
    for (const Lane& lane : lanes) {
      ::setenv("FUSEDMLP_KERNEL", lane.kernel.c_str(), 1);
      RunArgs args = lane.problem->args(lane.tokens, ordinary);
      args.stream = lane.stream;
      expect_ok(lane.plan->run(args));
    }
  }
  for (const Lane& lane : lanes) {
    EXPECT_EQ(wait(lane.stream), "");
    EXPECT_EQ(lane.problem->y(lane.tokens), lane.want) << lane.kernel << " on " << lane.sms << " SMs";
  }
}

}  // namespace
}  // namespace fusedmlp::test
