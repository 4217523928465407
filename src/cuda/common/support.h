// What several entries ask of their operands and of the device, and say of their time.
#pragma once

#include <string>

#include "core/kernel.h"

namespace fusedmlp::cuda {

// Why 16-byte loads along the rows of [out, in] weights cannot read these operands; empty: they can.
std::string unsupported_layout(const core::Query& query);

// The prediction of an entry that models `seconds`: no less than the physical limit.
core::Prediction prediction(const core::Query& query, double seconds);

// Whether kernels compiled for Ampere and Hopper may start before their predecessor is complete. Hopper runs the code
// made for it, which waits for its predecessor; newer GPUs run what their driver makes of PTX for Ampere, which knows
// no such wait.
inline bool waits_for_predecessor(const DeviceInfo& device) { return device.compute_capability / 10 == 9; }

}  // namespace fusedmlp::cuda
