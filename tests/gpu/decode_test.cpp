// What cuda.decode takes, its plans for GPUs that need not be here, and its overlapped launches under everything that
// can run beside them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/launches.h"
#include "core/sm_rates.h"
#include "cuda/decode/plan.h"
#include "gpu/cards.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"

namespace fusedmlp::test {
namespace {

using namespace cuda::decode;

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
  const auto why = [&](const char* text, std::int64_t tokens) {
    return entry().unsupported({spec_of(text), tokens, device, 1, false});
  };
  EXPECT_EQ(why("geglu:768x3072,bf16", 1), "");
  EXPECT_EQ(why("geglu:768x3072->7,bf16", 32), "");
  EXPECT_EQ(why("geglu:768x3072,bf16", 33), "takes at most 32 tokens");
  EXPECT_EQ(why("geglu:768x3072,fp32", 1), "bf16 and fp16 only");
  EXPECT_EQ(why("geglu:768x3071,bf16", 1), "needs d_in and d_hidden that are multiples of 8, got 768 and 3071");
  EXPECT_EQ(why("geglu:12x3072,bf16", 1), "needs d_in and d_hidden that are multiples of 8, got 12 and 3072");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false, {.in_out = true}}), "reads weights that are [out, in]");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false, {.alignment = 8}}),
            "needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got 8");
}

// Every row has a warp and every k a step, on kernels made for that, and an SM holds a block.
TEST(DecodePlans, CoverEverythingAndFit) {
  for (const Card& card : kCards) {
    const DeviceInfo device = device_of(card);
    for (const char* text :
         {"geglu:768x3072,bf16", "swiglu:4096x14336,bf16", "swiglu:8192x28672,fp16", "gelu:4096x4096+bias,bf16",
          "swiglu:2048x768,bf16", "gelu:8x8->1,bf16", "glu:40x72->7,fp16", "relu:65536x8->65536,bf16"}) {
      const MlpSpec spec = spec_of(text);
      for (const std::int64_t tokens : {1, 2, 8, 16, 17, 32}) {
        const Plan plan = choose(spec, tokens, device);
        SCOPED_TRACE(std::string(card.name) + ", " + text + ", " + std::to_string(tokens) + ": " + describe(plan.up) +
                     "; " + describe(plan.down));
        EXPECT_GT(plan.seconds, 0);
        for (const auto& [shape, product] :
             {std::pair(up_shape(spec), plan.up), std::pair(down_shape(spec), plan.down)}) {
          const Form& form = kForms[product.form];
          EXPECT_EQ(form.tensor, tokens > 1);
          EXPECT_EQ(form.gated, shape.gated);
          EXPECT_GE(std::int64_t{product.blocks} * product.rows(), shape.n);
          EXPECT_LT(std::int64_t{product.blocks - 1} * product.rows(), shape.n);
          const std::int64_t k = std::int64_t{product.steps} * product.splits * form.chunks * form.piece();
          EXPECT_GE(k, shape.k);
          EXPECT_EQ(product.whole, product.steps == 1 && k == shape.k);
          EXPECT_LE(product.threads(), kMostThreads);
          EXPECT_LE(product.threads() * registers_of(product.form, tokens > 16 ? 2 : 1, product.whole), kSmRegisters);
          EXPECT_LE(product.shared_bytes, 48u << 10);
          EXPECT_LE(product.rows(), kMostBlockRows);
        }
      }
    }
  }
}

// The epilogue's division is exact for every number that it is given.
TEST(DecodePlans, RowsAreFoundWithoutADivision) {
  for (int rows = 1; rows <= kMostBlockRows; ++rows) {
    for (int i = 0; i < rows * kMostTokens; ++i) {
      ASSERT_EQ(static_cast<int>(static_cast<std::uint32_t>(i) * row_divisor(rows) >> kDivisorBits), i / rows)
          << i << " / " << rows;
    }
  }
}

TEST(Decode, IsTwoLaunches) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  const MlpSpec spec = spec_of("geglu:768x3072,bf16");
  for (const std::int64_t tokens : {1, 16, 32}) {
    const std::vector<core::LaunchRecord> list = core::launches(entry(), {spec, tokens, device, 1, false});
    ASSERT_EQ(list.size(), 2u);
    const Plan plan = choose(spec, tokens, device);
    for (const auto& [record, product] : {std::pair(list[0], plan.up), std::pair(list[1], plan.down)}) {
      EXPECT_EQ(record.threads, product.threads());
      EXPECT_GT(record.registers, 0);
      EXPECT_LE(record.registers, registers_of(product.form, tokens > 16 ? 2 : 1, product.whole));
    }
  }
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
      for (const std::int64_t tokens : {1, 2, 7, 16, 32}) {
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

// Six streams run it at once while another kernel comes and goes on the SMs.
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
