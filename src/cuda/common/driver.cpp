#include "cuda/common/driver.h"

#include <cuda_runtime_api.h>

#include <optional>

#include "core/kernel.h"
#include "cuda/common/check.h"

namespace fusedmlp::cuda {
namespace {

// `version`: the CUDA that introduced the entry point.
template <class Function>
Status find(const char* name, int version, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (Status status = check(
          cudaGetDriverEntryPointByVersion(name, &found, static_cast<unsigned>(version), cudaEnableDefault, &result),
          name);
      !status) {
    return status;
  }
  if (result != cudaDriverEntryPointSuccess) {
    return Status(StatusCode::unavailable, "device", std::string("the NVIDIA driver has no ") + name);
  }
  function = reinterpret_cast<Function>(found);
  return {};
}

Result<Driver> look_up() {
  if (const Status& status = driver_status(); !status) return status;
  Driver driver;
  Status status = find("cuTensorMapEncodeTiled", 12000, driver.tensor_map_encode_tiled);
  if (status) status = find("cuStreamGetGreenCtx", 12040, driver.stream_get_green_ctx);
  if (status) status = find("cuGreenCtxGetDevResource", 12040, driver.green_ctx_get_dev_resource);
  if (status) status = find("cuDevicePrimaryCtxRetain", 7000, driver.device_primary_ctx_retain);
  if (status) status = find("cuCtxPushCurrent", 4000, driver.ctx_push_current);
  if (status) status = find("cuCtxPopCurrent", 4000, driver.ctx_pop_current);
  if (!status) return status;
  return driver;
}

}  // namespace

Result<const Driver*> driver() {
  static const Result<Driver> found = look_up();
  if (!found) return found.status();
  return &*found;
}

}  // namespace fusedmlp::cuda

namespace fusedmlp::core {

// 28 ns on an H200's host, and legal while the stream is being captured. To be asked before anything is planned: the
// capture of a cooperative launch with more blocks than the partition holds succeeds, and its graph never ends.
int cuda_stream_cores(int index, void* stream) {
  const Result<const cuda::Driver*> driver = cuda::driver();
  if (!driver) return 0;
  // The default streams are those of the current device.
  const auto handle = static_cast<CUstream>(stream);
  const bool by_default = handle == nullptr || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD;
  std::optional<cuda::DeviceScope> scope;
  if (by_default) scope.emplace(index);
  CUgreenCtx green = nullptr;
  if ((*driver)->stream_get_green_ctx(handle, &green) != CUDA_SUCCESS || green == nullptr) return 0;
  CUdevResource resource{};
  if ((*driver)->green_ctx_get_dev_resource(green, &resource, CU_DEV_RESOURCE_TYPE_SM) != CUDA_SUCCESS) return 0;
  return static_cast<int>(resource.sm.smCount);
}

}  // namespace fusedmlp::core
