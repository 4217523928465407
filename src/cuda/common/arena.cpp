// Device memory of a plan for runs that bring no workspace.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/kernel.h"
#include "cuda/common/check.h"

namespace fusedmlp::cuda {
namespace {

struct DeviceFree {
  void operator()(void* data) const { static_cast<void>(check(cudaFree(data), "free a workspace")); }
};
using DeviceBlock = std::unique_ptr<void, DeviceFree>;

class Arena final : public core::DeviceArena {
 public:
  explicit Arena(int device) : device_(device) {}

  ~Arena() override {
    const DeviceScope scope(device_);  // cudaFree waits for what is under way
    const OutsideCapture outside;      // of any thread: a capture forbids what waits
    blocks_.clear();
    outgrown_.clear();
  }

  Result<void*> workspace(std::size_t bytes, void* stream) override {
    const DeviceScope scope(device_);
    if (!scope.status()) return scope.status();
    const auto handle = static_cast<cudaStream_t>(stream);
    cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    unsigned long long capture = 0;
    if (Status status =
            check(cudaStreamGetCaptureInfo(handle, &capturing, &capture), "ask whether a stream is captured");
        !status) {
      return status;
    }
    // Handles come back for new streams, identifiers do not; a captured stream tells only its handle.
    auto id = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(stream));
    if (capturing == cudaStreamCaptureStatusNone) {
      capture = 0;
      if (Status status = check(cudaStreamGetId(handle, &id), "ask for a stream's identifier"); !status)
        return status;
    }

    const std::lock_guard lock(mutex_);
    Block& block = blocks_[{id, capture}];
    if (block.bytes >= bytes) return block.data.get();
    // An outgrown block is kept until the end, since freeing waits for the device and a captured graph may hold its
    // address; growth by half at least keeps the sum of them in bounds.
    const std::size_t size = std::max(bytes, block.bytes + block.bytes / 2);
    void* data = nullptr;
    {
      const OutsideCapture outside;
      if (Status status = check(cudaMalloc(&data, size), "allocate a workspace"); !status) return status;
    }
    DeviceBlock fresh(data);
    if (block.data != nullptr) outgrown_.push_back(std::move(block.data));
    block = {std::move(fresh), size};
    return data;
  }

 private:
  struct Block {
    DeviceBlock data;
    std::size_t bytes = 0;
  };

  int device_;
  std::mutex mutex_;
  std::map<std::pair<unsigned long long, unsigned long long>, Block> blocks_;  // by stream and capture
  std::vector<DeviceBlock> outgrown_;
};

}  // namespace
}  // namespace fusedmlp::cuda

namespace fusedmlp::core {

Result<std::unique_ptr<DeviceArena>> make_cuda_arena(int index) {
  return std::unique_ptr<DeviceArena>(std::make_unique<cuda::Arena>(index));
}

}  // namespace fusedmlp::core
