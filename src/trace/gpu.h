// The GPUs of a trace, as the cost model knows them.
#pragma once

#include <optional>

#include "core/gpu_model.h"
#include "fusedmlp/analysis.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

// From the device's name, else from its compute capability and number of SMs; a table's GPU that has another number
// of SMs than the table says (a MIG slice, a cut-down model) is scaled. Nothing known: no rates, origin "unknown".
core::GpuModel gpu_of(const DeviceProperties& device);

// Peaks that the caller gave replace the table's; 0 leaves them.
void set_peaks(core::GpuModel& gpu, double peak_flops, double peak_bandwidth);

AnalyzedDevice described(const core::GpuModel& gpu);

}  // namespace fusedmlp::trace
