// What cuda.cluster takes, its plans, and its kernels on integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/launches.h"
#include "cuda/cluster/plan.h"
#include "gpu/cards.h"
#include "gpu/exact_products.h"
#include "gpu/measured_plans.h"

namespace fusedmlp::test {
namespace {

using namespace cuda::cluster;
using ClusterPlan = cuda::cluster::Plan;

const core::KernelEntry& entry() { return gpu_entry(cuda::cluster::kName); }

TEST(Cluster, SaysWhatItDoesNotTake) {
  DeviceInfo device = h200();
  const auto why = [&](const char* text, std::int64_t tokens) {
    return entry().unsupported({spec_of(text), tokens, device, 1, false});
  };
  EXPECT_EQ(why("geglu:768x3072,bf16", 64), "");
  EXPECT_EQ(why("geglu:770x3071->8,fp16", 128), "");
  EXPECT_EQ(why("geglu:768x3072,bf16", 257), "takes at most 256 tokens");
  EXPECT_EQ(why("geglu:768x3072,fp32", 64), "bf16 and fp16 only");
  EXPECT_EQ(why("geglu:768x3072->7,bf16", 64), "needs a d_out that is a multiple of 8, got 7");
  device.cores = 32;
  EXPECT_EQ(why("geglu:768x3072,bf16", 64), "needs 64 SMs, for clusters of them, got 32");
  device.compute_capability = 100;
  EXPECT_EQ(why("geglu:768x3072,bf16", 64), "needs a Hopper GPU (compute capability 9.0)");
}

TEST(ClusterPlans, CoverEverythingAndFit) {
  for (const int sms : {64, 78, 132}) {
    DeviceInfo device = h200();
    device.cores = sms;
    for (const char* text :
         {"geglu:768x3072,bf16", "swiglu:4096x14336,bf16", "swiglu:8192x28672,fp16", "gelu:4096x4096+bias,bf16",
          "gelu:8x8->8,bf16", "glu:40x72->16,fp16", "relu:65536x8->65536,bf16"}) {
      const MlpSpec spec = spec_of(text);
      for (const std::int64_t tokens : {1, 64, 65, 128, 129, 256}) {
        const ClusterPlan plan = choose(spec, tokens, device);
        EXPECT_GT(plan.seconds, 0);
        EXPECT_GT(plan.drawn.ctas, 0);
        EXPECT_GE(plan.drawn.blocks, 0);
        for (const auto& [shape, product] :
             {std::pair(cuda::up_shape(spec), plan.up), std::pair(cuda::down_shape(spec), plan.down)}) {
          SCOPED_TRACE(std::string(text) + ", " + std::to_string(tokens) + ": " + describe(product));
          const Form& form = kForms[product.form];
          EXPECT_TRUE(fits(shape, tokens, product));
          EXPECT_GE(form.tokens * token_tiles_of(tokens, form), tokens);
          EXPECT_LE(product.slices, k_blocks_of(shape));
          EXPECT_GE(form.stages(), 2 * form.groups);
          const int columns = shape.gated ? form.rows / 2 : form.rows;
          EXPECT_GE(tiles_of(shape, form) * columns, shape.n);
          EXPECT_LT((tiles_of(shape, form) - 1) * columns, shape.n);
        }
      }
    }
  }
}

struct MeasuredPair {
  std::string spec;
  std::int64_t tokens = 0;
  ProductPlan up, down;
  double us = 0;
};
// Pairs of products as lab/cluster/plans.cpp timed them on an H200.
std::vector<MeasuredPair> measured_pairs(const std::string& name) {
  std::ifstream file(FUSEDMLP_TEST_DATA "/gpu/" + name);
  EXPECT_TRUE(file) << name;
  std::vector<MeasuredPair> all;
  MeasuredPair one;
  std::string word;
  while (file >> one.spec >> one.tokens) {
    file >> word >> one.up.form >> one.up.slices >> word >> one.down.form >> one.down.slices >> one.us;
    EXPECT_TRUE(file) << "a line ends early";
    all.push_back(one);
  }
  return all;
}

TEST(ClusterPlans, AreChosenAsMeasured) {
  const DeviceInfo device = h200();
  MeasuredPlans plans;
  for (const MeasuredPair& pair : measured_pairs("cluster_plans.txt")) {
    plans.add(pair.spec, pair.tokens, pair.us * 1e-6,
              predicted_seconds(spec_of(pair.spec), pair.tokens, pair.up, pair.down, device));
  }
  plans.expect(81, 0.055, 0.0055, 0.06);
}

// Small MLPs have one plan each.
TEST(ClusterPlans, OfSmallMlpsAreAsFastAsOthers) {
  const DeviceInfo device = h200();
  std::map<std::pair<std::string, std::int64_t>, std::pair<double, double>> times;  // the fastest, the chosen one
  for (const MeasuredPair& pair : measured_pairs("cluster_small_plans.txt")) {
    auto& [best, own] = times.try_emplace({pair.spec, pair.tokens}, pair.us, 0).first->second;
    best = std::min(best, pair.us);
    const ClusterPlan plan = choose(spec_of(pair.spec), pair.tokens, device);
    if (pair.up == plan.up && pair.down == plan.down && (own == 0 || pair.us < own)) own = pair.us;
  }
  EXPECT_EQ(times.size(), 40u);
  double lost = 0;
  for (const auto& [key, time] : times) {
    SCOPED_TRACE(key.first + " at " + std::to_string(key.second));
    const auto& [best, own] = time;
    const double predicted = choose(spec_of(key.first), key.second, device).seconds * 1e6;
    EXPECT_NEAR(predicted, best, 0.15 * best);
    if (own == 0) continue;  // the sweep had left it out
    lost += own / best - 1;
    EXPECT_LT(own, best + 0.4);
  }
  EXPECT_LT(lost / static_cast<double>(times.size()), 0.02);
}

// Every kernel with every number of slices, tiles that end within a tile and k within a block, second products that
// ask for some of their early weights after their wait, on integers that all kernels must get right to the bit.
class ClusterForms : public testing::TestWithParam<int> {};
TEST_P(ClusterForms, AreExact) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  if (device.compute_capability != 90) GTEST_SKIP() << "not Hopper";
  const bool many = kForms[GetParam()].tokens > 64;
  const auto counts = many ? std::vector<std::int64_t>{65, 125, 131, 253} : std::vector<std::int64_t>{1, 27, 32, 61};
  for (const int slices : kSlices) {
    for (const char* text :
         {"reglu:552x760->72+bias,bf16", "relu:1160x552->200+bias,fp16", "relu:552x2104->72,bf16"}) {
      const MlpSpec spec = spec_of(text);
      for (const std::int64_t tokens : counts) {
        const ProductPlan product{GetParam(), slices};
        if (!fits(cuda::up_shape(spec), tokens, product)) continue;
        ASSERT_TRUE(fits(cuda::down_shape(spec), tokens, product));
        const Drawn drawn = drawn_early(cuda::up_shape(spec), tokens, product, device);
        expect_exact_products(
            spec, tokens, describe(product), [&](const cuda::TwoGemms& products, cudaStream_t stream) {
              const Call call{products, cuda::fast_activation(spec), spec.gated, {product, product, drawn, 0}};
              return spec.dtype == DType::bf16 ? mlp_bf16(call, stream) : mlp_f16(call, stream);
            });
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Each, ClusterForms, testing::Range(0, kFormCount));

TEST(Cluster, IsTwoLaunches) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  const MlpSpec spec = spec_of("geglu:768x3072,bf16");
  if (!entry().unsupported({spec, 64, device, 1, false}).empty()) GTEST_SKIP() << "not Hopper";
  for (const std::int64_t tokens : {16, 64, 128}) {
    const std::vector<core::LaunchRecord> list = core::launches(entry(), {spec, tokens, device, 1, false});
    ASSERT_EQ(list.size(), 2u);
    const ClusterPlan plan = choose(spec, tokens, device);
    EXPECT_EQ(list[0].what, describe(plan.up));
    EXPECT_EQ(list[1].what, describe(plan.down));
  }
}

}  // namespace
}  // namespace fusedmlp::test
