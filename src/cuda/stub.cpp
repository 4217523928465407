// Stands in for the GPU backend in builds without the CUDA toolkit.
#include "core/kernel.h"

namespace fusedmlp::core {

std::span<const KernelEntry> cuda_kernels() { return {}; }

std::vector<Device> cuda_devices() { return {}; }

Result<DeviceInfo> describe_cuda(int index) {
  return Status(StatusCode::unavailable, "device",
                to_string(Device::cuda(index)) + " is not usable: this fusedmlp was built without CUDA");
}

}  // namespace fusedmlp::core
