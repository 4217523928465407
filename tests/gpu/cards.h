// GPUs that need not be here, and the table's entries by name.
#pragma once

#include <stdexcept>
#include <string>

#include "core/kernel.h"
#include "core/sm_rates.h"

namespace fusedmlp::test {

// NVIDIA's data sheet of the H200, with the bandwidth that a streaming kernel reaches.
inline DeviceInfo h200() {
  DeviceInfo info;
  info.device = Device::cuda();
  info.name = "H200";
  info.cores = 132;
  info.compute_capability = 90;
  info.memory_bandwidth = 4.46e12;
  info.shared_memory_per_block = 227u << 10;
  info.launch_seconds = core::kKernelGapSeconds;
  for (const DType dtype : {DType::bf16, DType::f16}) info.flops_per_core[static_cast<int>(dtype)] = 4096 * 1.98e9;
  return info;
}

inline const core::KernelEntry& gpu_entry(const std::string& name) {
  for (const core::KernelEntry& kernel : core::cuda_kernels()) {
    if (name == kernel.name) return kernel;
  }
  throw std::logic_error("no " + name + " in the table");
}

inline MlpSpec spec_of(const std::string& text) { return parse_spec(text).value(); }

}  // namespace fusedmlp::test
