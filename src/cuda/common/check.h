// CUDA's errors as Status.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "fusedmlp/status.h"

namespace fusedmlp::cuda {

// Ok for cudaSuccess. `doing` completes "CUDA could not ...": "launch cuda.portable".
Status check(cudaError_t error, const char* doing);
Status check(CUresult error, const char* doing);

// Ok when a driver of CUDA 13 (R580) or newer is there; asked once.
const Status& driver_status();

// Makes a device current until the end of the scope, by its primary context on top of whatever context this thread
// has: going back by cudaSetDevice would make a context on a device that was not in use, or leave a caller's own for
// the primary one.
class DeviceScope {
 public:
  explicit DeviceScope(int index);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

  const Status& status() const { return status_; }

 private:
  bool pushed_ = false;
  Status status_;
};

// Until the end of the scope this thread may allocate and load code although a stream is being captured: neither
// becomes part of the graph.
class OutsideCapture {
 public:
  OutsideCapture() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~OutsideCapture() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  OutsideCapture(const OutsideCapture&) = delete;
  OutsideCapture& operator=(const OutsideCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace fusedmlp::cuda
