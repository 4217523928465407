// The GPUs of this machine. A machine without a driver has none: that is an empty list, not an error.
#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/sm_rates.h"
#include "cuda/common/check.h"

namespace fusedmlp::core {
namespace {

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, index) == cudaSuccess ? value : 0;
}

int device_count() {
  if (!cuda::driver_status()) return 0;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // no device: nothing for a later caller to trip over
    return 0;
  }
  return count;
}

}  // namespace

std::vector<Device> cuda_devices() {
  std::vector<Device> found;
  for (int i = 0, n = device_count(); i < n; ++i) found.push_back(Device::cuda(i));
  return found;
}

Result<DeviceInfo> describe_cuda(int index) {
  if (const Status& status = cuda::driver_status(); !status) {
    return Status(status.code(), "device", to_string(Device::cuda(index)) + " is not there: " + status.message());
  }
  const int count = device_count();
  if (index < 0 || index >= count) {
    return Status(
        StatusCode::unavailable, "device",
        to_string(Device::cuda(index)) + " is not there: this process sees " + std::to_string(count) + " GPUs");
  }
  cudaDeviceProp properties{};
  if (Status status = cuda::check(cudaGetDeviceProperties(&properties, index), "describe the device"); !status) {
    return Status(StatusCode::unavailable, "device", status.message());
  }
  DeviceInfo info;
  info.device = Device::cuda(index);
  info.name = properties.name;
  info.cores = properties.multiProcessorCount;
  info.compute_capability = 10 * properties.major + properties.minor;
  if (info.compute_capability < kSmRates[std::size(kSmRates) - 1].capability) {
    return Status(StatusCode::unsupported, "device",
                  std::string(properties.name) + " is older than Ampere (compute capability 8.0)");
  }
  info.l1_bytes = properties.sharedMemPerMultiprocessor;
  info.shared_memory_per_block = properties.sharedMemPerBlockOptin;
  info.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  const double clock = 1e3 * attribute(cudaDevAttrClockRate, index);               // kHz
  const double memory_clock = 1e3 * attribute(cudaDevAttrMemoryClockRate, index);  // kHz, two transfers each
  info.memory_bandwidth =
      kMemoryEfficiency * 2 * memory_clock * attribute(cudaDevAttrGlobalMemoryBusWidth, index) / 8;
  info.memory_bandwidth_per_core = info.memory_bandwidth / info.cores;
  const SmRates& rates = sm_rates(info.compute_capability);
  info.flops_per_core[static_cast<int>(DType::f32)] = 2.0 * rates.fp32 * clock;
  info.flops_per_core[static_cast<int>(DType::bf16)] = 2.0 * rates.half * clock;
  info.flops_per_core[static_cast<int>(DType::f16)] = 2.0 * rates.half * clock;
  info.launch_seconds = kKernelGapSeconds;
  info.basis = Basis::modelled;
  return info;
}

}  // namespace fusedmlp::core
