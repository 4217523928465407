// What cuda.decode takes, its plans for GPUs that need not be here, and its overlapped launches under everything that
// can run beside them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/launches.h"
#include "core/sm_rates.h"
#include "cuda/decode/plan.h"
#include "gpu/cards.h"
#include "gpu/exact_products.h"
#include "gpu/guarded_run.h"
#include "gpu/measured_plans.h"
#include "gpu/resident.h"

namespace fusedmlp::test {
namespace {

using namespace cuda::decode;
using DecodePlan = cuda::decode::Plan;

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
        const DecodePlan plan = choose(spec, tokens, device);
        SCOPED_TRACE(std::string(card.name) + ", " + text + ", " + std::to_string(tokens) + ": " + describe(plan.up) +
                     "; " + describe(plan.down));
        EXPECT_GT(plan.seconds, 0);
        EXPECT_LE(plan.drawn.blocks, plan.up.blocks);
        EXPECT_GT(plan.drawn.row_bytes, 0);
        EXPECT_LE(plan.drawn.row_bytes, 2 * spec.d_in);
        EXPECT_EQ(plan.drawn.row_bytes % 16, 0);
        for (const auto& [shape, product] :
             {std::pair(cuda::up_shape(spec), plan.up), std::pair(cuda::down_shape(spec), plan.down)}) {
          const Form& form = kForms[product.form];
          EXPECT_EQ(form.tensor, tokens > 1);
          EXPECT_EQ(form.gated, shape.gated);
          EXPECT_GE(std::int64_t{product.blocks} * product.rows(), shape.n);
          EXPECT_LT(std::int64_t{product.blocks - 1} * product.rows(), shape.n);
          const std::int64_t k = std::int64_t{product.steps} * product.splits * form.chunks * form.piece();
          EXPECT_GE(k, shape.k);
          EXPECT_EQ(product.whole, product.steps == 1 && k == shape.k);
          EXPECT_LE(product.threads(), kMostThreads);
          const int quarter = (product.threads() + 127) / 128 * 32;
          EXPECT_LE(quarter * registers_of(product.form, tokens > 16 ? 2 : 1, product.whole), kSmRegisters / 4);
          EXPECT_LE(product.shared_bytes, form.staged ? kMostStagedShared : kMostShared);
          EXPECT_LE(product.shared_bytes, card.shared_per_block);
          EXPECT_TRUE(!form.staged || product.groups == 1);
          EXPECT_LE(product.rows(), kMostBlockRows);
        }
      }
    }
  }
}

// Pairs of products as lab/decode/plans.cpp timed them on an H200: predictions are near, and the pair predicted to be
// the fastest is nearly that.
TEST(DecodePlans, AreChosenAsMeasured) {
  const DeviceInfo device = h200();
  MeasuredPlans plans;
  std::ifstream file(FUSEDMLP_TEST_DATA "/gpu/decode_plans.txt");
  ASSERT_TRUE(file) << "tests/data/gpu/decode_plans.txt";
  std::string text, word;
  std::int64_t tokens = 0;
  while (file >> text >> tokens) {
    const MlpSpec spec = spec_of(text);
    const auto product = [&](const cuda::ProductShape& shape) {
      int form = 0, splits = 0, groups_of = 0;
      file >> word >> form >> splits >> groups_of;
      const std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups_of);
      EXPECT_TRUE(plan.has_value()) << text << ": form " << form;
      return plan.value_or(ProductPlan{});
    };
    const ProductPlan up = product(cuda::up_shape(spec)), down = product(cuda::down_shape(spec));
    double us = 0;
    file >> us;
    ASSERT_TRUE(file) << "a line ends early";
    plans.add(text, tokens, us * 1e-6, predicted_seconds(spec, tokens, {up, down, {}, 0}, device));
  }
  plans.expect(28, 0.11, 0.025, 0.07);
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

// Every kernel there is, with k of exactly one step and with k that ends within a later one, on integers that all
// kernels must get right to the bit.
TEST(Decode, EveryFormIsExact) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  for (int form = 0; form < kFormCount; ++form) {
    const Form& kernel = kForms[form];
    for (const bool whole : {true, false}) {
      for (const std::int64_t tokens : kernel.tensor ? std::vector<int>{2, 9, 16, 25, 32} : std::vector<int>{1}) {
        const DType dtype = tokens % 2 == 0 ? DType::bf16 : DType::f16;
        const int splits = kernel.tensor ? 3 : 2, k = splits * kernel.chunks * kernel.piece() * (whole ? 1 : 3);
        for (const bool down : {false, true}) {
          if (down && kernel.gated) continue;
          MlpSpec spec = spec_of(kernel.gated ? "reglu:8x200->72+bias,bf16" : "relu:8x200->72+bias,bf16");
          spec.dtype = dtype;
          (down ? spec.d_hidden : spec.d_in) = whole ? k : k - 40;
          const cuda::ProductShape shape = down ? cuda::down_shape(spec) : cuda::up_shape(spec);
          const std::optional<ProductPlan> product = make_product(shape, tokens, form, splits, kernel.staged ? 1 : 2);
          ASSERT_TRUE(product.has_value());
          EXPECT_EQ(product->whole, whole);
          EXPECT_EQ(product->steps, whole ? 1 : 3);
          DecodePlan plan = choose(spec, tokens, device);
          (down ? plan.down : plan.up) = *product;
          const std::string what =
              (down ? "down by form " : "up by form ") + std::to_string(form) + ", " + describe(*product);
          expect_exact_products(spec, tokens, what, [&](const cuda::TwoGemms& products, cudaStream_t stream) {
            const Call call{products, cuda::activation_args(spec), plan};
            return dtype == DType::bf16 ? mlp_bf16(call, stream) : mlp_f16(call, stream);
          });
        }
      }
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
    const DecodePlan plan = choose(spec, tokens, device);
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
