// Where a span goes: products, passes over the hidden, other work, and gaps by what the host did.
#include "trace/breakdown.h"

#include <gtest/gtest.h>

#include "made_trace.h"

namespace fusedmlp::trace {
namespace {

Breakdown breakdown_of(MadeTrace& made, const Instance& instance) {
  return SpanParts(made.trace(), made.joined()).breakdown({&instance});
}

double sum(const Breakdown& b) {
  return b.gemm_us + b.intermediate_us + b.other_us + b.launch_gap_us + b.sync_gap_us + b.warmup_gap_us +
         b.other_gap_us;
}

TEST(TraceBreakdown, RolesAndTheDevicesOwnLatency) {
  MadeTrace made;
  const std::uint32_t up = made.launched("up", 100, 110, 50, 55);
  const std::uint32_t act = made.launched("act", 111, 114, 56, 60);  // launched long before: the device's latency
  const std::uint32_t down = made.launched("down", 115, 125, 61, 65);
  const std::uint32_t reduce = made.launched("splitk", 125, 127, 66, 70);
  const Breakdown b = breakdown_of(
      made, instance_of({{up, Role::up}, {act, Role::activation}, {down, Role::down}, {reduce, Role::reduce}}));
  EXPECT_DOUBLE_EQ(b.gemm_us, 22);
  EXPECT_DOUBLE_EQ(b.intermediate_us, 3);
  EXPECT_DOUBLE_EQ(b.other_gap_us, 2);
  EXPECT_DOUBLE_EQ(sum(b), 27);
}

// Idle from 110 to 150. The next launch ends at 140; until 120 its thread waits in a synchronisation.
TEST(TraceBreakdown, SynchronisationThenLaunch) {
  MadeTrace made;
  const std::uint32_t up = made.launched("up", 100, 110, 90, 95);
  made.runtime("cudaStreamSynchronize", 96, 120);
  const std::uint32_t down = made.launched("down", 150, 160, 130, 140);
  const Breakdown b = breakdown_of(made, instance_of({{up, Role::up}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.sync_gap_us, 10);
  EXPECT_DOUBLE_EQ(b.launch_gap_us, 30);
  EXPECT_DOUBLE_EQ(b.other_gap_us, 0);
  EXPECT_DOUBLE_EQ(sum(b), 60);
}

TEST(TraceBreakdown, ASynchronisationOfAnotherThreadIsNoReason) {
  MadeTrace made;
  const std::uint32_t up = made.launched("up", 100, 110, 90, 95);
  made.runtime("cudaDeviceSynchronize", 96, 145, "2");
  const std::uint32_t down = made.launched("down", 150, 160, 130, 140);
  const Breakdown b = breakdown_of(made, instance_of({{up, Role::up}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.sync_gap_us, 0);
  EXPECT_DOUBLE_EQ(b.launch_gap_us, 40);
}

TEST(TraceBreakdown, AllocationLoadingAndTheProfilersStartAreWarmUp) {
  MadeTrace made;
  const std::uint32_t up = made.launched("up", 100, 110, 90, 95);
  made.runtime("cudaMalloc", 112, 117);
  made.add(Category::overhead, "Lazy Function Loading", 118, 128, "-1", "0");
  made.add(Category::overhead, "Activity Buffer Request", 128, 130, "-1", "0");
  made.add(Category::overhead, "Buffer Flush", 131, 134, "-1", "0");
  const std::uint32_t down = made.launched("down", 150, 160, 135, 140);
  const Breakdown b = breakdown_of(made, instance_of({{up, Role::up}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.warmup_gap_us, 5 + 12);
  EXPECT_DOUBLE_EQ(b.other_gap_us, 3);
  EXPECT_DOUBLE_EQ(b.launch_gap_us, 20);
  EXPECT_DOUBLE_EQ(sum(b), 60);
}

// Libraries load without an event: a first kernel that takes the host more than a millisecond.
TEST(TraceBreakdown, AMillisecondBeforeAFirstKernelIsWarmUpAndLaterOnesAreNot) {
  MadeTrace made;
  const std::uint32_t up = made.launched("up", 0, 10, 0, 1);
  const std::uint32_t first = made.launched("down", 1500, 1510, 1490, 1495);
  const std::uint32_t up2 = made.launched("up", 2000, 2010, 1990, 1995);
  const std::uint32_t second = made.launched("down", 3500, 3510, 3490, 3495);
  const Breakdown a = breakdown_of(made, instance_of({{up, Role::up}, {first, Role::down}}));
  EXPECT_DOUBLE_EQ(a.warmup_gap_us, 1490);
  EXPECT_DOUBLE_EQ(a.launch_gap_us, 0);
  const Breakdown b = breakdown_of(made, instance_of({{up2, Role::up}, {second, Role::down}}));
  EXPECT_DOUBLE_EQ(b.warmup_gap_us, 0);
  EXPECT_DOUBLE_EQ(b.launch_gap_us, 1490);
}

TEST(TraceBreakdown, WithoutALaunchTheReasonIsNotKnown) {
  MadeTrace made;
  const std::uint32_t up = made.kernel("up", 100, 110);
  const std::uint32_t down = made.kernel("down", 150, 160);
  const Breakdown b = breakdown_of(made, instance_of({{up, Role::up}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.other_gap_us, 40);
  EXPECT_DOUBLE_EQ(sum(b), 60);
}

// Programmatic dependent launch: the product starts before the pass ends. The moment counts once, as product.
TEST(TraceBreakdown, OverlapsCountOnce) {
  MadeTrace made;
  const std::uint32_t act = made.kernel("act", 100, 110);
  const std::uint32_t down = made.kernel("down", 105, 120);
  const Breakdown b = breakdown_of(made, instance_of({{act, Role::activation}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.gemm_us, 15);
  EXPECT_DOUBLE_EQ(b.intermediate_us, 5);
  EXPECT_DOUBLE_EQ(sum(b), 20);
}

TEST(TraceBreakdown, ForeignKernelsInTheSpanAreOtherWorkNotGap) {
  MadeTrace made;
  made.kernel("long before", 0, 104);  // reaches into the span
  const std::uint32_t up = made.kernel("up", 100, 110);
  made.kernel("foreign", 112, 130);
  const std::uint32_t down = made.kernel("down", 131, 140);
  const Breakdown b = breakdown_of(made, instance_of({{up, Role::up}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.gemm_us, 19);
  EXPECT_DOUBLE_EQ(b.other_us, 18);
  EXPECT_DOUBLE_EQ(b.other_gap_us, 3);
  EXPECT_DOUBLE_EQ(sum(b), 40);
}

TEST(TraceBreakdown, IsTheMeanOverInstances) {
  MadeTrace made;
  const std::uint32_t a = made.kernel("up", 0, 10);
  const std::uint32_t b = made.kernel("up", 20, 40);
  const Instance first = instance_of({{a, Role::up}});
  const Instance second = instance_of({{b, Role::up}});
  EXPECT_DOUBLE_EQ(SpanParts(made.trace(), made.joined()).breakdown({&first, &second}).gemm_us, 15);
}

TEST(TraceBreakdown, OpsStandInOnACpuTrace) {
  MadeTrace made;
  made.trace().devices.clear();
  const std::uint32_t up = made.add(Category::cpu_op, "aten::mm", 0, 10);
  const std::uint32_t act = made.add(Category::cpu_op, "aten::gelu", 12, 15);
  const std::uint32_t down = made.add(Category::cpu_op, "aten::mm", 15, 30);
  const Breakdown b = breakdown_of(made, instance_of({{up, Role::up}, {act, Role::activation}, {down, Role::down}}));
  EXPECT_DOUBLE_EQ(b.gemm_us, 25);
  EXPECT_DOUBLE_EQ(b.intermediate_us, 3);
  EXPECT_DOUBLE_EQ(b.other_gap_us, 2);
}

}  // namespace
}  // namespace fusedmlp::trace
