// Device memory for barriers between the blocks of a grid. It belongs to the library, because a workspace may be dirty.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "fusedmlp/status.h"

namespace fusedmlp::cuda {

inline constexpr int kBarrierStride = 8;     // words between two counters of a slot: a 32-byte sector
inline constexpr int kBarrierCounters = 256;

// kBarrierCounters counters, zeroed once, for work that is queued on `stream` of the current device next. Each stream
// and each capture has its own: kernels of one stream run one after another, and replays of one instantiated graph do
// too. Legal from several threads and while the stream is being captured. A slot lives as long as the process.
Result<std::uint32_t*> barrier_slot(cudaStream_t stream);

}  // namespace fusedmlp::cuda
