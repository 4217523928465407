// What cuda.decode takes, its plans for GPUs that need not be here, and its barriers under everything that can run
// beside it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <tuple>

#include "core/sm_rates.h"
#include "cuda/common/barrier_slot.h"
#include "cuda/decode/plan.h"
#include "gpu/cards.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"

namespace fusedmlp::test {
namespace {

struct Card {
  const char* name;
  int capability;
  int sms;
  double clock;
  double bandwidth;
  std::size_t shared_per_block;
};
// NVIDIA's data sheets; shared memory by compute capability from the CUDA programming guide.
constexpr Card kCards[] = {
    {"A100", 80, 108, 1.41e9, 1.9e12, 163 << 10},  {"L4", 89, 58, 2.04e9, 0.28e12, 99 << 10},
    {"H100", 90, 132, 1.98e9, 3.1e12, 227 << 10},  {"H200", 90, 132, 1.98e9, 4.46e12, 227 << 10},
    {"B200", 100, 148, 1.85e9, 7.4e12, 227 << 10}, {"RTX 5090", 120, 170, 2.41e9, 1.67e12, 99 << 10}};

DeviceInfo device_of(const Card& card) {
  DeviceInfo info;
  info.device = Device::cuda();
  info.name = card.name;
  info.cores = card.sms;
  info.compute_capability = card.capability;
  info.shared_memory_per_block = card.shared_per_block;
  info.memory_bandwidth = card.bandwidth;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    info.flops_per_core[static_cast<int>(dtype)] = 2.0 * core::sm_rates(card.capability).half * card.clock;
  }
  info.launch_seconds = core::kKernelGapSeconds;
  return info;
}

const core::KernelEntry& entry() { return gpu_entry(cuda::decode::kName); }

TEST(Decode, SaysWhatItDoesNotTake) {
  const MlpSpec spec = spec_of("geglu:768x3072,bf16");
  const DeviceInfo device = device_of(kCards[2]);
  EXPECT_EQ(entry().unsupported({spec, 64, device, 1, false}), "");
  EXPECT_EQ(entry().unsupported({spec, 65, device, 1, false}), "takes at most 64 tokens");
  EXPECT_EQ(entry().unsupported({spec_of("geglu:768x3072,fp32"), 1, device, 1, false}), "bf16 and fp16 only");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false, {.in_out = true}}), "reads weights that are [out, in]");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false, {.alignment = 8}}),
            "needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got 8");
}

TEST(DecodePlans, CoverEveryRowAndFitTheDevice) {
  for (const Card& card : kCards) {
    const DeviceInfo device = device_of(card);
    for (const char* text :
         {"geglu:768x3072,bf16", "swiglu:4096x14336,bf16", "swiglu:8192x28672,fp16", "gelu:4096x4096+bias,bf16",
          "swiglu:2048x768,bf16", "gelu:1x1,bf16", "glu:33x65->7,fp16"}) {
      const MlpSpec spec = spec_of(text);
      for (const std::int64_t tokens : {1, 3, 8, 9, 16, 17, 33, 64}) {
        SCOPED_TRACE(std::string(card.name) + ", " + text + ", " + std::to_string(tokens));
        const auto plan = cuda::decode::choose(spec, tokens, device);
        ASSERT_TRUE(plan.has_value());
        EXPECT_LE(plan->blocks, card.sms);
        EXPECT_LE(static_cast<std::size_t>(plan->shared_bytes), card.shared_per_block);
        EXPECT_LE(plan->warps, cuda::decode::most_warps(plan->token_class));
        for (const auto& [phase, columns, weights] :
             {std::tuple(plan->up, spec.d_hidden, spec.gated ? 2 : 1), std::tuple(plan->down, spec.d_out, 1)}) {
          EXPECT_EQ(phase.warps_n * phase.warps_k, plan->warps);
          EXPECT_GE(std::int64_t{phase.rows} * (phase.blocks / phase.splits), columns);
          EXPECT_GE(phase.passes * phase.pass_rows, phase.rows);
          EXPECT_GE(phase.warps_n * phase.tiles * cuda::decode::kTileRows, phase.pass_rows * weights);
          EXPECT_LE(phase.tiles * phase.step_units, cuda::decode::kStepUnits);
          if (phase.buffers > 1) {
            EXPECT_EQ(phase.chunk_units % (phase.warps_k * phase.step_units), 0);
          }
        }
      }
    }
  }
}

// Capturing again and again needs no more memory.
TEST(BarrierSlots, OfACaptureComeBackWhenItsGraphIsGone) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const Stream stream;
  const Result<std::uint32_t*> own = cuda::barrier_slot(stream.handle());
  ASSERT_TRUE(own.ok()) << own.status().to_string();
  EXPECT_EQ(*cuda::barrier_slot(stream.handle()), *own);
  std::set<std::uint32_t*> seen;
  for (int i = 0; i < 300; ++i) {
    std::uint32_t* slot = nullptr;
    const Graph graph(stream, [&] {
      slot = *cuda::barrier_slot(stream.handle());
      EXPECT_EQ(*cuda::barrier_slot(stream.handle()), slot) << "one capture, one slot";
    });
    EXPECT_NE(slot, *own);
    seen.insert(slot);
  }
  EXPECT_LT(seen.size(), 100u);
}

// MLPs of several shapes and token counts, every run's bits known from a run alone.
class DecodeRuns : public ::testing::Test {
 protected:
  struct Case {
    std::unique_ptr<Resident> problem;
    std::int64_t tokens;
    std::vector<std::byte> want;
  };

  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    for (const char* text : {"swiglu:512x1536,bf16", "gelu:256x1000->264+bias,fp16", "swiglu:64x9000->2048,bf16",
                             "swiglu_oai:1024x64+bias,bf16"}) {
      const MlpSpec spec = spec_of(text);
      for (const std::int64_t tokens : {1, 7, 16, 29, 64}) {
        Case one{std::make_unique<Resident>(spec, make_values(spec, tokens, Data::normal, 9), tokens), tokens, {}};
        one.want = run_alone(one);
        cases_.push_back(std::move(one));
      }
    }
  }
  std::vector<std::byte> run_alone(const Case& one) {
    const Stream stream;
    one.problem->poison_y();
    expect_ok(one.problem->plan().run(one.problem->args(one.tokens, stream)));
    EXPECT_EQ(stream.wait(), "");
    return one.problem->y(one.tokens);
  }

  const Forced forced_{{Isa::generic, cuda::decode::kName, false, Device::cuda()}};
  std::vector<Case> cases_;
};

// FUSEDMLP_SOAK launches over three streams, half of them replays, each stream with its own plans and outputs; bits
// compared again and again. A hang is a failure: the runner's time limit ends it.
TEST_F(DecodeRuns, SoakOverStreamsAndGraphs) {
  const char* text = std::getenv("FUSEDMLP_SOAK");
  const int launches = text == nullptr ? 20000 : std::atoi(text);
  constexpr int kStreams = 3;
  struct Lane {
    Stream stream;
    std::vector<::fusedmlp::Plan> plans;
    std::vector<std::unique_ptr<DeviceBuffer>> y;
    std::vector<std::unique_ptr<Graph>> graphs;
    DeviceBuffer workspace;
    std::size_t last = 0;
  };
  std::vector<std::unique_ptr<Lane>> lanes;
  const auto args_of = [&](const Lane& lane, std::size_t which) {
    RunArgs args = cases_[which].problem->args(cases_[which].tokens, lane.stream);
    args.y = lane.y[which]->data();
    args.workspace = lane.workspace.data();
    args.workspace_bytes = lane.workspace.size();
    return args;
  };
  for (int s = 0; s < kStreams; ++s) {
    lanes.push_back(std::make_unique<Lane>());
    Lane& lane = *lanes.back();
    std::size_t bytes = 0;
    for (const Case& one : cases_) {
      lane.plans.push_back(one.problem->plan());
      lane.y.push_back(std::make_unique<DeviceBuffer>(one.want.size()));
      bytes = std::max(bytes, lane.plans.back().workspace_bytes(one.tokens));
    }
    lane.workspace = DeviceBuffer(bytes);
    for (std::size_t c = 0; c < cases_.size(); ++c) {
      lane.graphs.push_back(
          std::make_unique<Graph>(lane.stream, [&] { expect_ok(lane.plans[c].run(args_of(lane, c))); }));
    }
  }
  Random random(23);
  for (int i = 0; i < launches; ++i) {
    Lane& lane = *lanes[static_cast<std::size_t>(i % kStreams)];
    const auto which = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(cases_.size())));
    if (random.below(2) == 0) {
      expect_ok(lane.plans[which].run(args_of(lane, which)));
    } else {
      lane.graphs[which]->replay(lane.stream);
    }
    lane.last = which;
    if (i % 199 < kStreams) {
      ASSERT_EQ(lane.stream.wait(), "") << "launch " << i;
      ASSERT_EQ(lane.y[lane.last]->download(cases_[which].want.size()), cases_[which].want) << "launch " << i;
      expect_ok(cudaMemsetAsync(lane.y[lane.last]->data(), 0xff, lane.y[lane.last]->size(), lane.stream.handle()));
    }
  }
  for (const auto& lane : lanes) EXPECT_EQ(lane->stream.wait(), "");
}

// Six streams run it at once while another kernel comes and goes on the SMs: no two grids may wait for each other.
TEST_F(DecodeRuns, ManyGridsBesideAKernelThatTakesSms) {
  MlpSpec large = spec_of("gelu:1024x1024,bf16");
  constexpr std::int64_t kRows = 4096;
  const Resident squatter(large, make_values(large, kRows, Data::normal, 4), kRows);
  ::setenv("FUSEDMLP_KERNEL", "cuda.portable", 1);
  const ::fusedmlp::Plan squat = squatter.plan();
  const Stream beside;
  expect_ok(squat.run(squatter.args(kRows, beside)));  // loads the code
  const Graph squats(beside, [&] {
    for (int i = 0; i < 4; ++i) expect_ok(squat.run(squatter.args(kRows, beside)));
  });
  ::setenv("FUSEDMLP_KERNEL", cuda::decode::kName, 1);
  constexpr std::size_t kStreams = 6;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<::fusedmlp::Plan> plans;
  for (std::size_t s = 0; s < kStreams; ++s) {
    streams.push_back(std::make_unique<Stream>());
    plans.push_back(cases_[s * 3].problem->plan());
    cases_[s * 3].problem->poison_y();
  }
  for (int round = 0; round < 200; ++round) {
    if (round % 8 == 0) squats.replay(beside);
    for (std::size_t s = 0; s < kStreams; ++s) {
      const Case& one = cases_[s * 3];
      expect_ok(plans[s].run(one.problem->args(one.tokens, *streams[s])));
    }
  }
  for (std::size_t s = 0; s < kStreams; ++s) {
    EXPECT_EQ(streams[s]->wait(), "");
    EXPECT_EQ(cases_[s * 3].problem->y(cases_[s * 3].tokens), cases_[s * 3].want);
  }
  EXPECT_EQ(beside.wait(), "");
}

}  // namespace
}  // namespace fusedmlp::test
