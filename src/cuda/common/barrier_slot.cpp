#include "cuda/common/barrier_slot.h"

#include <map>
#include <mutex>
#include <tuple>

#include "cuda/common/check.h"

namespace fusedmlp::cuda {
namespace {

constexpr std::size_t kSlotWords = std::size_t{kBarrierCounters} * kBarrierStride;
constexpr std::size_t kPageSlots = 32;

struct Slots {
  std::mutex mutex;
  std::map<std::tuple<int, unsigned long long, unsigned long long>, std::uint32_t*> used;  // device, stream, capture
  struct Page {
    std::uint32_t* next = nullptr;
    std::size_t left = 0;
  };
  std::map<int, Page> pages;  // by device
};

// Never destroyed: kernels may run until the process ends.
Slots& slots() {
  static Slots& all = *new Slots;
  return all;
}

Status allocate_page(Slots::Page& page) {
  constexpr std::size_t kBytes = kPageSlots * kSlotWords * sizeof(std::uint32_t);
  const OutsideCapture outside;
  void* data = nullptr;
  if (Status status = check(cudaMalloc(&data, kBytes), "allocate grid barriers"); !status) return status;
  // A stream of its own: the legacy stream would wait for others, which a capture forbids.
  cudaStream_t stream = nullptr;
  Status status = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream");
  if (status) {
    status = check(cudaMemsetAsync(data, 0, kBytes, stream), "zero grid barriers");
    if (status) status = check(cudaStreamSynchronize(stream), "zero grid barriers");
    static_cast<void>(cudaStreamDestroy(stream));
  }
  if (!status) {
    static_cast<void>(cudaFree(data));
    return status;
  }
  page = {static_cast<std::uint32_t*>(data), kPageSlots};
  return {};
}

}  // namespace

Result<std::uint32_t*> barrier_slot(cudaStream_t stream) {
  int device = 0;
  if (Status status = check(cudaGetDevice(&device), "ask for the current device"); !status) return status;
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  unsigned long long capture = 0;
  if (Status status =
          check(cudaStreamGetCaptureInfo(stream, &capturing, &capture), "ask whether a stream is captured");
      !status) {
    return status;
  }
  // Handles come back for new streams, identifiers do not; a captured stream tells only its handle.
  auto id = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(stream));
  if (capturing == cudaStreamCaptureStatusNone) {
    capture = 0;
    if (Status status = check(cudaStreamGetId(stream, &id), "ask for a stream's identifier"); !status) return status;
  }

  Slots& all = slots();
  const std::lock_guard lock(all.mutex);
  std::uint32_t*& slot = all.used[{device, id, capture}];
  if (slot != nullptr) return slot;
  Slots::Page& page = all.pages[device];
  if (page.left == 0) {
    if (Status status = allocate_page(page); !status) return status;
  }
  slot = page.next;
  page.next += kSlotWords;
  --page.left;
  return slot;
}

}  // namespace fusedmlp::cuda
