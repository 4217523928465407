// What cuda.matvec takes and refuses, its plans, for a GPU that need not be here; and on one, what it says it
// launches.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/launches.h"
#include "cuda/matvec/matvec.h"
#include "gpu/cards.h"
#include "gpu/resident.h"

namespace fusedmlp::cuda::matvec {
namespace {

const core::KernelEntry& entry() { return test::gpu_entry(kName); }

TEST(Matvec, SaysWhatItDoesNotTake) {
  const DeviceInfo device = test::h200();
  const MlpSpec spec = test::spec_of("geglu:768x3072,bf16");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false}), "");
  EXPECT_EQ(entry().unsupported({spec, 2, device, 1, false}), "");
  EXPECT_EQ(entry().unsupported({spec, 3, device, 1, false}), "takes at most 2 tokens");
  EXPECT_EQ(entry().unsupported({test::spec_of("geglu:768x3072,fp32"), 1, device, 1, false}), "bf16 and fp16 only");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false, {.in_out = true}}), "reads weights that are [out, in]");
  EXPECT_EQ(entry().unsupported({spec, 1, device, 1, false, {.alignment = 8}}),
            "needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got 8");
  EXPECT_EQ(entry().unsupported({test::spec_of("gelu:8x200000,bf16"), 1, device, 1, false}),
            "the activations are too large for the shared memory");
}

// Every row has a warp, every chunk of k a part of it, and no warp has more than its kernel holds.
TEST(Matvec, PlansCoverEverything) {
  const DeviceInfo device = test::h200();
  for (const char* text : {"geglu:768x3072,bf16", "gelu:768x3072,bf16", "gelu:1024x4096,fp16", "gelu:4096x4096,bf16",
                           "swiglu:2048x768,bf16", "swiglu:4096x14336,bf16", "gelu:1x1->1,bf16", "glu:17x37->21,bf16",
                           "gelu:300x100->5000,bf16", "swiglu:8192x28672,bf16", "relu:255x257->9000,fp16"}) {
    const MlpSpec spec = test::spec_of(text);
    for (const std::int64_t tokens : {1, 2}) {
      const Plan plan = choose(spec, tokens, device);
      SCOPED_TRACE(std::string(text) + ", " + std::to_string(tokens) + ": " + describe(plan));
      ASSERT_GT(plan.blocks, 0);
      EXPECT_LE(plan.blocks, device.cores);
      EXPECT_LE(plan.shared_bytes, device.shared_memory_per_block);
      EXPECT_GE(std::int64_t{plan.blocks} * plan.up.rows, spec.d_hidden);
      EXPECT_GE(std::int64_t{plan.blocks} * plan.down.rows, spec.d_out);
      const auto fits = [&](const Phase& phase, std::int64_t k, int most_chunks, int most_jobs) {
        EXPECT_EQ(phase.splits * phase.groups, plan.threads / 32);
        const std::int64_t chunks = (k + kChunk - 1) / kChunk;
        EXPECT_GE(std::int64_t{most_chunks} * phase.splits, chunks);
        EXPECT_GE(most_jobs * phase.groups, phase.rows);
      };
      if (plan.form == kStreaming) {
        EXPECT_EQ(plan.threads, kStreamingThreads);
        fits(plan.up, spec.d_in, plan.up.steps * (spec.gated ? kStepLoads / 2 : kStepLoads), 1 << 20);
        fits(plan.down, spec.d_hidden, plan.down.steps * kStepLoads, 1 << 20);
      } else {
        const Resident& form = kResident[plan.form];
        EXPECT_EQ(tokens, 1);
        EXPECT_TRUE(spec.gated ? form.gated : form.plain);
        fits(plan.up, spec.d_in, form.up_chunks, form.up_jobs);
        fits(plan.down, spec.d_hidden, form.down_chunks, form.down_jobs);
      }
    }
  }
}

TEST(Matvec, IsOneLaunch) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = describe(Device::cuda()).value();
  const MlpSpec spec = test::spec_of("geglu:768x3072,bf16");
  const std::vector<core::LaunchRecord> list = core::launches(entry(), {spec, 1, device, 1, false});
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].threads, choose(spec, 1, device).threads);
  EXPECT_GT(list[0].registers, 0);
}

}  // namespace
}  // namespace fusedmlp::cuda::matvec
