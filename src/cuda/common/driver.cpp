#include "cuda/common/driver.h"

#include <cuda_runtime_api.h>

#include "cuda/common/check.h"

namespace fusedmlp::cuda {
namespace {

constexpr int kEntryPointVersion = 12000;  // the ABI under which every entry point below was introduced

template <class Function>
Status find(const char* name, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (Status status =
          check(cudaGetDriverEntryPointByVersion(name, &found, kEntryPointVersion, cudaEnableDefault, &result), name);
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
  if (Status status = find("cuTensorMapEncodeTiled", driver.tensor_map_encode_tiled); !status) return status;
  return driver;
}

}  // namespace

Result<const Driver*> driver() {
  static const Result<Driver> found = look_up();
  if (!found) return found.status();
  return &*found;
}

}  // namespace fusedmlp::cuda
