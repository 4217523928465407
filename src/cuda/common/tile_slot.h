// Device memory by which the CTAs of a launch share out work and wait for each other's. It belongs to the library,
// because a workspace may be dirty.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

#include "fusedmlp/status.h"

namespace fusedmlp::cuda {

inline constexpr int kTileSlotWords = 4224;

// launch(words): kTileSlotWords zeroed words, which the kernel leaves zeroed, for one launch on `stream` of the
// current device. Each stream and each capture has its own two sets, which its launches take by turns, so that a
// launch may use its words before the one ahead of it is complete, though not before the one ahead of that is. Legal
// from several threads and while the stream is being captured; two replays at once of one captured graph,
// instantiated twice, are not allowed. A capture's memory is used again when its graph and everything instantiated
// from it are gone, a stream's never.
Status with_tile_slot(cudaStream_t stream, const std::function<Status(std::uint32_t*)>& launch);

}  // namespace fusedmlp::cuda
