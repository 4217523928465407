#include "core/cost_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/dispatch.h"

namespace fusedmlp::core {
namespace {

DeviceInfo machine() {
  DeviceInfo info;
  info.cores = 4;
  info.l2_bytes = 1000;
  info.l3_bytes = 10000;
  info.flops_per_core[static_cast<int>(DType::f32)] = 1000;
  info.flops_per_core[static_cast<int>(DType::bf16)] = 500;
  info.flops_per_core[static_cast<int>(DType::f16)] = 250;
  info.l2_bandwidth_per_core = 400;
  info.l3_bandwidth_per_core = 200;
  info.l3_bandwidth = 500;
  info.memory_bandwidth_per_core = 100;
  info.memory_bandwidth = 150;
  info.basis = Basis::measured;
  return info;
}

TEST(CostModel, ThreadsAreBoundedByCores) {
  EXPECT_EQ(usable_threads(machine(), 2), 2);
  EXPECT_EQ(usable_threads(machine(), 64), 4);
  EXPECT_EQ(usable_threads(machine(), 0), 1);
}

TEST(CostModel, PeakFollowsTheStorageType) {
  EXPECT_EQ(peak_flops(machine(), DType::f32, 2), 2000);
  EXPECT_EQ(peak_flops(machine(), DType::bf16, 64), 2000);
  EXPECT_EQ(peak_flops(machine(), DType::f16, 1), 250);
}

TEST(CostModel, BandwidthIsThatOfTheNearestLevelThatHoldsIt) {
  const DeviceInfo info = machine();
  EXPECT_EQ(read_bandwidth(info, 1000, 1), 400);
  EXPECT_EQ(read_bandwidth(info, 1001, 1), 200);
  EXPECT_EQ(read_bandwidth(info, 1001, 2), 800);  // two L2s
  EXPECT_EQ(read_bandwidth(info, 10000, 2), 400);
  EXPECT_EQ(read_bandwidth(info, 10000, 4), 500);  // L3 as a whole
  EXPECT_EQ(read_bandwidth(info, 10001, 1), 100);
  EXPECT_EQ(read_bandwidth(info, 10001, 4), 150);
  EXPECT_EQ(read_bandwidth(info, 10001, 400), 150);
}

TEST(CostModel, ThePhysicalLimitIsTheLongerOfArithmeticAndMemory) {
  const MlpSpec spec = parse_spec("gelu:4x8->2+bias").value();  // 58 weights, 232 bytes; 48 products a token
  EXPECT_EQ(weight_bytes(spec), 232);
  EXPECT_EQ(activation_bytes(spec, 3), 3 * 6 * 4);
  const Prediction one = physical_limit(spec, 1, machine(), 1);
  EXPECT_EQ(one.bound, Bound::memory);
  EXPECT_DOUBLE_EQ(one.seconds, (232 + 24) / 400.0);
  EXPECT_EQ(one.basis, Basis::measured);
  const Prediction many = physical_limit(spec, 100, machine(), 1);
  EXPECT_EQ(many.bound, Bound::compute);
  EXPECT_DOUBLE_EQ(many.seconds, 2 * 100 * 48 / 1000.0);
  EXPECT_DOUBLE_EQ(physical_limit(spec, 100, machine(), 4).seconds, many.seconds / 4);
  EXPECT_EQ(physical_limit(spec, 0, machine(), 1).seconds, 0);
}

TEST(CostModel, TilesSetThePhysicalLimitButNotTheVectorPeak) {
  DeviceInfo info = machine();
  info.tile_flops_per_core[static_cast<int>(DType::bf16)] = 4000;
  EXPECT_EQ(peak_flops(info, DType::bf16, 2), 1000);
  EXPECT_EQ(fastest_flops(info, DType::bf16, 2), 8000);
  EXPECT_EQ(fastest_flops(info, DType::f32, 2), peak_flops(info, DType::f32, 2));
  const MlpSpec spec = parse_spec("gelu:4x8->2,bf16").value();
  EXPECT_DOUBLE_EQ(physical_limit(spec, 1000, info, 1).seconds,
                   std::max(2 * 1000 * 48 / 4000.0, (96 + 12000) / 400.0));
}

TEST(CostModel, GatesCostTheirShare) {
  const MlpSpec plain = parse_spec("silu:4x8").value();
  const MlpSpec gated = parse_spec("swiglu:4x8").value();
  EXPECT_DOUBLE_EQ(compute_seconds(gated, 10, machine(), 1), 1.5 * compute_seconds(plain, 10, machine(), 1));
}

TEST(CostModel, CombineOverlapsWorkAndAddsOverhead) {
  const Prediction compute = combine(3, 2, 1, Basis::modelled);
  EXPECT_EQ(compute.seconds, 4);
  EXPECT_EQ(compute.bound, Bound::compute);
  EXPECT_EQ(combine(2, 3, 1, Basis::modelled).bound, Bound::memory);
  EXPECT_EQ(combine(2, 3, 5, Basis::modelled).bound, Bound::overhead);
  EXPECT_EQ(combine(2, 3, 5, Basis::modelled).seconds, 8);
}

TEST(CostModel, FusingPaysWhereItIsFasterOrTheCallerIsBoundByIssuing) {
  EXPECT_TRUE(fusing_pays(1e-3, 1.1e-3));
  EXPECT_FALSE(fusing_pays(1.1e-3, 1e-3));
  EXPECT_TRUE(fusing_pays(30e-6, 10e-6));
  EXPECT_FALSE(fusing_pays(50e-6, 10e-6));
}

TEST(CostModel, BoundsHaveNames) {
  EXPECT_STREQ(to_string(Bound::overhead), "overhead");
  EXPECT_STREQ(to_string(Bound::memory), "memory");
  EXPECT_STREQ(to_string(Bound::compute), "compute");
}

}  // namespace
}  // namespace fusedmlp::core
