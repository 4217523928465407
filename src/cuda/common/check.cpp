#include "cuda/common/check.h"

#include <map>
#include <mutex>

#include "core/format.h"
#include "cuda/common/driver.h"

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

// Kept for the process, as the runtime keeps those that it makes.
Result<CUcontext> primary_context(int index) {
  const Result<const Driver*> driver = cuda::driver();
  if (!driver) return driver.status();
  static std::mutex mutex;
  static std::map<int, CUcontext>& made = *new std::map<int, CUcontext>;
  const std::lock_guard lock(mutex);
  if (const auto known = made.find(index); known != made.end()) return known->second;
  if (Status status = check(cudaInitDevice(index, 0, 0), "make a device's context"); !status) return status;
  CUcontext context = nullptr;
  if (Status status = check((*driver)->device_primary_ctx_retain(&context, index), "make a device's context");
      !status) {
    return status;
  }
  made.emplace(index, context);
  return context;
}

}  // namespace

Status check(CUresult error, const char* doing) {
  if (error == CUDA_SUCCESS) return {};
  return Status(error == CUDA_ERROR_OUT_OF_MEMORY ? StatusCode::out_of_memory : StatusCode::internal, "",
                core::format("CUDA could not {}: CUresult {}", doing, static_cast<int>(error)));
}

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
  const Result<CUcontext> context = primary_context(index);
  if (!context) {
    status_ = context.status();
    return;
  }
  status_ = check((*driver())->ctx_push_current(*context), "make a device current");
  pushed_ = status_.ok();
}

DeviceScope::~DeviceScope() {
  CUcontext own = nullptr;
  if (pushed_) static_cast<void>((*driver())->ctx_pop_current(&own));
}

}  // namespace fusedmlp::cuda
