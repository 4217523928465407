// The driver's own entry points, looked up at run time: nothing here links to libcuda.
#pragma once

#include <cuda.h>

#include "fusedmlp/status.h"

namespace fusedmlp::cuda {

struct Driver {
  decltype(&cuTensorMapEncodeTiled) tensor_map_encode_tiled = nullptr;
  decltype(&cuStreamGetGreenCtx) stream_get_green_ctx = nullptr;
  decltype(&cuGreenCtxGetDevResource) green_ctx_get_dev_resource = nullptr;
  decltype(&cuDevicePrimaryCtxRetain) device_primary_ctx_retain = nullptr;
  decltype(&cuCtxPushCurrent) ctx_push_current = nullptr;
  decltype(&cuCtxPopCurrent) ctx_pop_current = nullptr;
};

// Looked up once. A Status where there is no driver, or one too old.
Result<const Driver*> driver();

}  // namespace fusedmlp::cuda
