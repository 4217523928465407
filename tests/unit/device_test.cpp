#include "core/device.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "core/cpu_constants.h"
#include "unit/fixtures.h"

namespace fusedmlp {
namespace {

using test::ScopedEnv;

TEST(Device, NamesParseBack) {
  EXPECT_EQ(parse_device("cpu").value(), Device::cpu());
  EXPECT_EQ(parse_device("cuda").value(), Device::cuda(0));
  for (const Device device : {Device::cpu(), Device::cuda(0), Device::cuda(12)}) {
    EXPECT_EQ(parse_device(to_string(device)).value(), device);
  }
  for (const char* text : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999"}) {
    const Result<Device> device = parse_device(text);
    ASSERT_FALSE(device.ok()) << text;
    EXPECT_EQ(device.status().to_string(),
              std::string("invalid_argument: device: got \"") + text + "\", accepted: cpu, cuda, cuda:N with N >= 0");
  }
}

TEST(Device, TheCpuIsDescribed) {
  const ScopedEnv any("FUSEDMLP_ISA", nullptr);
  const DeviceInfo info = describe(Device::cpu()).value();
  EXPECT_EQ(info.device, Device::cpu());
  EXPECT_FALSE(info.name.empty());
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  EXPECT_EQ(info.cores, CPU_COUNT(&set));
  EXPECT_GE(info.l1_bytes, std::size_t{8} << 10);
  EXPECT_GE(info.l2_bytes, info.l1_bytes);
  EXPECT_GE(info.l3_bytes, info.l2_bytes);
  for (const double rate : info.flops_per_core) EXPECT_GT(rate, 1e9);
  EXPECT_GE(info.l2_bandwidth_per_core, info.l3_bandwidth_per_core);
  EXPECT_GE(info.l3_bandwidth_per_core, info.memory_bandwidth_per_core);
  EXPECT_GE(info.memory_bandwidth, info.memory_bandwidth_per_core);
  EXPECT_GT(info.launch_seconds, 0);
  EXPECT_EQ(devices().front(), Device::cpu());
}

TEST(Device, WhatNoKernelRunsOnIsNotListed) {
  const auto find = [](Device device) -> Result<const DeviceInfo*> {
    if (device.index == 1) return Status(StatusCode::unsupported, "device", "is older than Ampere");
    return core::cpu_device();
  };
  EXPECT_EQ(core::usable({Device::cuda(0), Device::cuda(1), Device::cuda(2)}, find),
            (std::vector{Device::cuda(0), Device::cuda(2)}));
}

TEST(Device, EnvironmentLowersTheClass) {
  Isa best;
  {
    const ScopedEnv any("FUSEDMLP_ISA", "");
    best = describe(Device::cpu()).value().isa;
  }
  for (const Isa isa : {Isa::generic, Isa::avx2, Isa::avx512, Isa::amx}) {
    const ScopedEnv forced("FUSEDMLP_ISA", to_string(isa));
    const Result<DeviceInfo> info = describe(Device::cpu());
    if (isa <= best) {
      ASSERT_TRUE(info.ok());
      EXPECT_EQ(info->isa, isa);
      EXPECT_EQ(cpu_isa().value(), isa);
    } else {
      EXPECT_EQ(info.status().code(), StatusCode::unsupported);
      EXPECT_EQ(info.status().argument(), "FUSEDMLP_ISA");
    }
  }
  const ScopedEnv unknown("FUSEDMLP_ISA", "sse9");
  EXPECT_EQ(describe(Device::cpu()).status().to_string(),
            "invalid_argument: FUSEDMLP_ISA: got \"sse9\", accepted: generic, avx2, avx512, amx");
}

TEST(Device, SelectIsaRefusesWhatTheCpuLacks) {
  EXPECT_EQ(core::select_isa(nullptr, Isa::avx2).value(), Isa::avx2);
  EXPECT_EQ(core::select_isa("", Isa::avx512).value(), Isa::avx512);
  EXPECT_EQ(core::select_isa("avx2", Isa::avx512).value(), Isa::avx2);
  EXPECT_EQ(core::select_isa("generic", Isa::generic).value(), Isa::generic);
  EXPECT_EQ(core::select_isa("avx512", Isa::avx2).status().to_string(),
            "unsupported: FUSEDMLP_ISA: got avx512, but the best class of this CPU is avx2");
  EXPECT_EQ(core::select_isa("AVX2", Isa::avx2).status().code(), StatusCode::invalid_argument);
}

TEST(Device, AnUnknownGpuIsUnavailable) {
  const Result<DeviceInfo> info = describe(Device::cuda(4000));
  ASSERT_FALSE(info.ok());
  EXPECT_EQ(info.status().code(), StatusCode::unavailable);
  EXPECT_EQ(info.status().argument(), "device");
  EXPECT_NE(info.status().message().find("cuda:4000"), std::string::npos);
}

TEST(Device, ConstantsCoverEveryClassInOrder) {
  int next = 0;
  double slowest = 0;
  for (const core::CpuConstants& row : core::kCpuConstants) {
    EXPECT_EQ(static_cast<int>(row.isa), next++);
    EXPECT_GT(row.gflops_per_core[0], slowest);
    slowest = row.gflops_per_core[0];
    EXPECT_GE(row.l2_per_core, row.l3_per_core);
    EXPECT_GE(row.l3_per_core, row.memory_per_core);
    EXPECT_GE(row.memory_two_cores, row.memory_per_core);
    EXPECT_GE(row.memory_socket, row.memory_two_cores);
  }
  EXPECT_EQ(next, kIsaCount);
}

TEST(Device, PartOfAGpuHasFewerSmsAndANameOfItsOwn) {
  DeviceInfo whole;
  whole.device = Device::cuda();
  whole.name = "H200";
  whole.cores = 132;
  whole.memory_bandwidth = 4.4e12;
  whole.memory_bandwidth_per_core = whole.memory_bandwidth / whole.cores;
  const DeviceInfo part = core::partition_of(whole, 16);
  EXPECT_EQ(part.cores, 16);
  EXPECT_EQ(part.name, "H200, 16 SMs");
  EXPECT_DOUBLE_EQ(part.memory_bandwidth, 2 * 16 * whole.memory_bandwidth_per_core);
  EXPECT_DOUBLE_EQ(core::partition_of(whole, 100).memory_bandwidth, whole.memory_bandwidth);
  EXPECT_EQ(part.device, whole.device);
}

TEST(Device, EnumerationsHaveNames) {
  EXPECT_STREQ(to_string(Basis::measured), "measured");
  EXPECT_STREQ(to_string(Basis::modelled), "modelled");
  EXPECT_STREQ(to_string(Basis::unsupported), "unsupported");
  EXPECT_STREQ(to_string(Isa::avx512), "avx512");
  EXPECT_STREQ(to_string(Isa::amx), "amx");
}

}  // namespace
}  // namespace fusedmlp
