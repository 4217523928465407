// Stands in for the GPU backend in builds without the CUDA toolkit.
#include "core/kernel.h"
#include "core/launches.h"

namespace fusedmlp::core {
namespace {

Status without_cuda(int index) {
  return Status(StatusCode::unavailable, "device",
                to_string(Device::cuda(index)) + " is not usable: this fusedmlp was built without CUDA");
}

}  // namespace

std::span<const KernelEntry> cuda_kernels() { return {}; }

std::vector<Device> cuda_devices() { return {}; }

Result<DeviceInfo> describe_cuda(int index) { return without_cuda(index); }

std::vector<LaunchRecord> cuda_launches(const KernelEntry&, const Query&) { return {}; }

Result<std::unique_ptr<DeviceArena>> make_cuda_arena(int index) { return without_cuda(index); }

}  // namespace fusedmlp::core
