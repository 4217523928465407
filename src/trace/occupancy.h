// How many of an SM's warps a kernel can keep busy.
#pragma once

#include <optional>

#include "trace/trace.h"

namespace fusedmlp::trace {

// Share of an SM's warps, 0 to 1, as the profiler estimates it: blocks that fit beside each other by warps, registers
// and shared memory, or fewer where the grid has fewer, times the warps of a block. Unlike the profiler's figure it
// holds above 48 KiB of shared memory. Empty where the trace lacks a figure, and on AMD, whose rules differ.
std::optional<double> occupancy(const DeviceArgs& kernel, const DeviceProperties& device);

}  // namespace fusedmlp::trace
