// Stands in for the GPU backend in builds without the CUDA toolkit.
#include "core/gpu_run.h"
#include "core/kernel.h"
#include "core/launches.h"
#include "core/measure_entries.h"

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

int cuda_stream_cores(int, void*) { return 0; }

std::vector<LaunchRecord> cuda_launches(const KernelEntry&, const Query&) { return {}; }

Result<AlignedBuffer> run_on_cuda(const KernelEntry&, const Query& query, const MlpWeights&, const void*) {
  return without_cuda(query.device.device.index);
}

Result<std::unique_ptr<EntryTimer>> make_cuda_timer(const MlpSpec&, const DeviceInfo& device, const MeasureOptions&) {
  return without_cuda(device.device.index);
}

const KernelEntry* cuda_read_floor() { return nullptr; }

Result<std::unique_ptr<DeviceArena>> make_cuda_arena(int index) { return without_cuda(index); }

}  // namespace fusedmlp::core
