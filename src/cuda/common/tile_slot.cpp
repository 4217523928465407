#include "cuda/common/tile_slot.h"

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/common/check.h"

namespace fusedmlp::cuda {
namespace {

constexpr std::size_t kSlotWords = std::size_t{2} * kTileSlotWords;
constexpr std::size_t kPageSlots = 16;

struct Slot {
  std::mutex mutex;  // from the choice of a set to the launch that takes it
  std::uint32_t* words = nullptr;
  int next = 0;
};

using Key = std::tuple<int, unsigned long long, unsigned long long>;  // device, stream, capture

struct Slots {
  std::mutex mutex;
  std::map<Key, std::unique_ptr<Slot>> used;
  std::map<int, std::vector<std::unique_ptr<Slot>>> free;  // by device
};

// Never destroyed: kernels may run until the process ends.
Slots& slots() {
  static Slots& all = *new Slots;
  return all;
}

Status allocate_page(std::vector<std::unique_ptr<Slot>>& free) {
  constexpr std::size_t kBytes = kPageSlots * kSlotWords * sizeof(std::uint32_t);
  const OutsideCapture outside;
  void* data = nullptr;
  if (Status status = check(cudaMalloc(&data, kBytes), "allocate tile slots"); !status) return status;
  // A stream of its own: the legacy stream would wait for others, which a capture forbids.
  cudaStream_t stream = nullptr;
  Status status = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream");
  if (status) {
    status = check(cudaMemsetAsync(data, 0, kBytes, stream), "zero tile slots");
    if (status) status = check(cudaStreamSynchronize(stream), "zero tile slots");
    static_cast<void>(cudaStreamDestroy(stream));
  }
  if (!status) {
    static_cast<void>(cudaFree(data));
    return status;
  }
  for (std::size_t i = kPageSlots; i > 0; --i) {
    auto slot = std::make_unique<Slot>();
    slot->words = static_cast<std::uint32_t*>(data) + (i - 1) * kSlotWords;
    free.push_back(std::move(slot));
  }
  return {};
}

// Called by CUDA when the last graph of a capture is gone and idle; no call of CUDA is allowed here.
void give_back(void* key) {
  const std::unique_ptr<Key> owned(static_cast<Key*>(key));
  Slots& all = slots();
  const std::lock_guard lock(all.mutex);
  const auto found = all.used.find(*owned);
  if (found == all.used.end()) return;
  all.free[std::get<0>(*owned)].push_back(std::move(found->second));
  all.used.erase(found);
}

// Ties the slot of `key` to the life of a graph.
Status give_back_with(cudaGraph_t graph, const Key& key) {
  auto owned = std::make_unique<Key>(key);
  cudaUserObject_t object = nullptr;
  if (Status status = check(cudaUserObjectCreate(&object, owned.get(), give_back, 1, cudaUserObjectNoDestructorSync),
                            "watch a graph");
      !status) {
    return status;
  }
  static_cast<void>(owned.release());
  return check(cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove), "watch a graph");
}

Result<Slot*> slot_of(cudaStream_t stream) {
  int device = 0;
  if (Status status = check(cudaGetDevice(&device), "ask for the current device"); !status) return status;
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  unsigned long long capture = 0;
  cudaGraph_t graph = nullptr;
  if (Status status =
          check(cudaStreamGetCaptureInfo(stream, &capturing, &capture, &graph), "ask whether a stream is captured");
      !status) {
    return status;
  }
  const bool captured = capturing != cudaStreamCaptureStatusNone;
  // Handles come back for new streams, identifiers do not; a captured stream tells only its handle.
  auto id = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(stream));
  if (!captured) {
    capture = 0;
    if (Status status = check(cudaStreamGetId(stream, &id), "ask for a stream's identifier"); !status) return status;
  }

  const Key key{device, id, capture};
  Slot* slot = nullptr;
  {
    Slots& all = slots();
    const std::lock_guard lock(all.mutex);
    if (const auto found = all.used.find(key); found != all.used.end()) return found->second.get();
    std::vector<std::unique_ptr<Slot>>& free = all.free[device];
    if (free.empty()) {
      if (Status status = allocate_page(free); !status) return status;
    }
    slot = free.back().get();
    all.used[key] = std::move(free.back());
    free.pop_back();
  }
  // Outside the lock, which the graph's end takes too.
  if (captured) {
    if (Status status = give_back_with(graph, key); !status) return status;
  }
  return slot;
}

}  // namespace

Status with_tile_slot(cudaStream_t stream, const std::function<Status(std::uint32_t*)>& launch) {
  const Result<Slot*> found = slot_of(stream);
  if (!found) return found.status();
  Slot& slot = **found;
  const std::lock_guard lock(slot.mutex);
  Status status = launch(slot.words + slot.next * kTileSlotWords);
  if (status) slot.next ^= 1;
  return status;
}

}  // namespace fusedmlp::cuda
