#include "cuda/common/check.h"

#include "core/format.h"

namespace fusedmlp::cuda {
namespace {

// CUDA 13.0; NVIDIA's first driver for it is R580. CUDA's version numbers are 1000 * major + 10 * minor.
constexpr int kLeastDriver = 13000;

Status query_driver() {
  int version = 0;  // stays 0 without a driver
  if (const cudaError_t error = cudaDriverGetVersion(&version); error != cudaSuccess) {
    return check(error, "ask for the driver's version");
  }
  if (version == 0) return Status(StatusCode::unavailable, "device", "this machine has no NVIDIA driver");
  if (version < kLeastDriver) {
    return Status(StatusCode::unavailable, "device",
                  core::format("the NVIDIA driver serves CUDA {}.{}, fusedmlp needs 13.0 (driver R580) or newer",
                               version / 1000, version % 1000 / 10));
  }
  return {};
}

}  // namespace

Status check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());  // nothing for a later caller to trip over
  const StatusCode code = error == cudaErrorMemoryAllocation ? StatusCode::out_of_memory
                          : error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver
                              ? StatusCode::unavailable
                              : StatusCode::internal;
  return Status(
      code, "",
      core::format("CUDA could not {}: {} ({})", doing, cudaGetErrorString(error), cudaGetErrorName(error)));
}

const Status& driver_status() {
  static const Status status = query_driver();
  return status;
}

DeviceScope::DeviceScope(int index) {
  int current = 0;
  status_ = check(cudaGetDevice(&current), "ask for the current device");
  if (!status_ || current == index) return;
  status_ = check(cudaSetDevice(index), "make a device current");
  if (status_) previous_ = current;
}

DeviceScope::~DeviceScope() {
  if (previous_ >= 0) static_cast<void>(cudaSetDevice(previous_));
}

}  // namespace fusedmlp::cuda
