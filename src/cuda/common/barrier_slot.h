// Device memory for barriers between the blocks of a grid. It belongs to the library, because a workspace may be
// dirty.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "fusedmlp/status.h"

namespace fusedmlp::cuda {

inline constexpr int kBarrierStride = 8;  // words between two counters of a slot: a 32-byte sector
inline constexpr int kBarrierCounters = 256;

// kBarrierCounters counters for work that is queued on `stream` of the current device next; zeroed once, and left by
// every barrier so that the next one can follow. Each stream has its own, since its kernels run one after another,
// and so has each capture: two replays at once of one captured graph, instantiated twice, are not allowed. Legal from
// several threads and while the stream is being captured. A capture's slot is used again when its graph and
// everything instantiated from it are gone, a stream's never.
Result<std::uint32_t*> barrier_slot(cudaStream_t stream);

}  // namespace fusedmlp::cuda
