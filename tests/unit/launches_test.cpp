// How launches are named, and that a CPU has none.
#include "core/launches.h"

#include <gtest/gtest.h>

#include "core/dispatch.h"

namespace fusedmlp::core {
namespace {

TEST(Launches, AreNamedWithTheirResources) {
  EXPECT_EQ(to_string(LaunchRecord{"tiles of 64 x 96", 128, 384, 2048, 168, 1}),
            "128 blocks of 384 threads, 168 registers, 2.0 KB shared memory: tiles of 64 x 96");
  EXPECT_EQ(to_string(LaunchRecord{"", 1, 256, 0, 32, 3}),
            "3 x 1 block of 256 threads, 32 registers, 0.0 KB shared memory");
}

TEST(Launches, OfTheCpuAreNone) {
  const MlpSpec spec = parse_spec("geglu:768x3072,bf16").value();
  const DeviceInfo device = describe(Device::cpu()).value();
  for (const KernelEntry& entry : kernels(DeviceType::cpu)) {
    EXPECT_TRUE(launches(entry, {spec, 16, device, 1, true}).empty()) << entry.name;
  }
}

}  // namespace
}  // namespace fusedmlp::core
