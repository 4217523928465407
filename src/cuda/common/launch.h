// Kernel launches that report failure as Status.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "cuda/common/check.h"
#include "cuda/common/recording.h"

namespace fusedmlp::cuda {

struct Launch {
  dim3 grid;
  dim3 block;
  unsigned cluster = 1;          // blocks of a cluster, along x
  std::size_t shared_bytes = 0;  // dynamic
  cudaStream_t stream = nullptr;
  // Programmatic dependent launch: the kernel may start before its predecessor on the stream has finished, and
  // must wait by itself (ptx::grid_dependency_wait) before it touches what that one wrote. sm_90 and newer.
  bool overlaps_predecessor = false;
  std::string what;  // for a recording: tile and stages
};

// Asks once for each device and kernel for more dynamic shared memory than the 48 KB that need no asking.
// `done` is a bit a device, one variable for each kernel.
inline Status allow_shared_memory(const void* kernel, std::size_t bytes, std::atomic<std::uint64_t>& done) {
  int device = 0;
  if (Status status = check(cudaGetDevice(&device), "ask for the current device"); !status) return status;
  const std::uint64_t bit = device < 64 ? std::uint64_t{1} << device : 0;
  if ((done.load(std::memory_order_relaxed) & bit) != 0) return {};
  if (Status status =
          check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
                "reserve shared memory");
      !status) {
    return status;
  }
  done.fetch_or(bit, std::memory_order_relaxed);
  return {};
}

// kKernel<<<...>>>(params) on the current device. `name` is the registry entry's, for the message.
// most_shared: the most dynamic shared memory that any launch of this kernel asks for on this device.
template <auto kKernel, class... Params>
Status launch(const char* name, const Launch& how, std::size_t most_shared, const Params&... params) {
  const OutsideCapture loading;  // code is loaded when it is first used
  if (recording() != nullptr) {
    record(how, reinterpret_cast<const void*>(kKernel));
    return {};
  }
  if (most_shared > (48u << 10)) {
    static std::atomic<std::uint64_t> done{0};
    if (Status status = allow_shared_memory(reinterpret_cast<const void*>(kKernel), most_shared, done); !status) {
      return status;
    }
  }
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = how.stream;
  config.attrs = attributes;
  if (how.overlaps_predecessor) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (how.cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {how.cluster, 1, 1};
  }
  const cudaError_t error = cudaLaunchKernelEx(&config, kKernel, params...);
  if (error == cudaSuccess) return {};
  const Status status = check(error, "launch");
  return Status(status.code(), "", std::string(name) + ": " + status.message());
}

}  // namespace fusedmlp::cuda
