// The analyser's model of the portable kernels (core/gpu_portable.h) against the predictions that dispatch chooses
// by, for GPUs that need not be here.
#include "core/gpu_portable.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/sm_rates.h"
#include "gpu/cards.h"

namespace fusedmlp::test {
namespace {

DeviceInfo device_of(const core::GpuModel& gpu) {
  DeviceInfo info = h200();
  info.name = gpu.name;
  info.cores = gpu.sms;
  info.compute_capability = gpu.sm;
  info.memory_bandwidth = core::kMemoryEfficiency * gpu.peak_bandwidth;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    info.flops_per_core[static_cast<int>(dtype)] =
        gpu.peak_flops[static_cast<int>(core::gpu_type(dtype))] / info.cores;
  }
  return info;
}

TEST(PortableModel, AgreesWithDispatch) {
  double sum = 0, count = 0;
  for (const char* name : {"A100", "L40S", "B200", "RTX 5090"}) {
    const core::GpuModel gpu = core::find_gpu(name).value();
    const DeviceInfo device = device_of(gpu);
    for (const char* text : {"geglu_tanh:768x3072,bf16", "gelu:768x3072+bias,bf16", "gelu:1024x4096+bias,bf16",
                             "gelu:4096x4096+bias,bf16", "swiglu:2048x768,bf16", "swiglu:4096x14336,bf16",
                             "geglu_tanh:2048x16384,bf16"}) {
      for (const std::int64_t tokens : {64, 128, 256, 512, 1024, 2048, 4096, 8192}) {
        const MlpSpec spec = spec_of(text);
        const double kernel = gpu_entry("cuda.portable").predict({spec, tokens, device, 1, false}).seconds;
        const double ratio = core::gpu_portable(gpu, spec, tokens)->seconds / kernel;
        EXPECT_NEAR(std::log(ratio), 0, std::log(1.45)) << name << " " << text << " " << tokens << ": " << ratio;
        sum += std::abs(ratio - 1);
        count += 1;
      }
    }
  }
  EXPECT_LT(sum / count, 0.1);
}

}  // namespace
}  // namespace fusedmlp::test
