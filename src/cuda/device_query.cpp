// The GPUs of this machine. A machine without a driver has none: that is an empty list, not an error.
#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "core/kernel.h"

namespace fusedmlp::core {
namespace {

// Multiply-adds a clock and SM, dense: plain fp32 lanes, and tensor cores with fp32 accumulation.
// From NVIDIA's architecture white papers (A100, GA102, AD102, H100, Blackwell).
struct SmRates {
  int capability;  // 10 * major + minor, the least that the row serves
  int fp32;
  int half;
};
constexpr SmRates kSmRates[] = {{120, 128, 512}, {100, 128, 4096}, {90, 128, 2048},
                                {89, 128, 512},  {86, 128, 256},   {80, 64, 1024}};

// A launch back to back on one stream, as commonly measured on H100-class hosts.
constexpr double kLaunchSeconds = 2.5e-6;

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, index) == cudaSuccess ? value : 0;
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // no driver: nothing for a later caller to trip over
    return 0;
  }
  return count;
}

}  // namespace

std::span<const KernelEntry> cuda_kernels() { return {}; }

std::vector<Device> cuda_devices() {
  std::vector<Device> found;
  for (int i = 0, n = device_count(); i < n; ++i) found.push_back(Device::cuda(i));
  return found;
}

Result<DeviceInfo> describe_cuda(int index) {
  const int count = device_count();
  if (index < 0 || index >= count) {
    return Status(
        StatusCode::unavailable, "device",
        to_string(Device::cuda(index)) + " is not there: this process sees " + std::to_string(count) + " GPUs");
  }
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) {
    return Status(StatusCode::unavailable, "device",
                  to_string(Device::cuda(index)) + ": " + cudaGetErrorString(error));
  }
  DeviceInfo info;
  info.device = Device::cuda(index);
  info.name = properties.name;
  info.cores = properties.multiProcessorCount;
  info.l1_bytes = properties.sharedMemPerMultiprocessor;
  info.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  const double clock = 1e3 * attribute(cudaDevAttrClockRate, index);               // kHz
  const double memory_clock = 1e3 * attribute(cudaDevAttrMemoryClockRate, index);  // kHz, two transfers each
  info.memory_bandwidth = 2 * memory_clock * attribute(cudaDevAttrGlobalMemoryBusWidth, index) / 8;
  info.memory_bandwidth_per_core = info.memory_bandwidth / info.cores;
  const int capability = 10 * properties.major + properties.minor;
  for (const SmRates& rates : kSmRates) {
    if (capability < rates.capability) continue;
    info.flops_per_core[static_cast<int>(DType::f32)] = 2.0 * rates.fp32 * clock;
    info.flops_per_core[static_cast<int>(DType::bf16)] = 2.0 * rates.half * clock;
    info.flops_per_core[static_cast<int>(DType::f16)] = 2.0 * rates.half * clock;
    break;
  }
  info.launch_seconds = kLaunchSeconds;
  info.basis = Basis::modelled;
  return info;
}

}  // namespace fusedmlp::core
