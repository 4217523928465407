// Whether to fuse an MLP, and why, in one sentence.
#pragma once

#include <optional>
#include <string>

#include "core/gpu_model.h"
#include "fusedmlp/analysis.h"

namespace fusedmlp::trace {

// What is known when the verdict is given.
struct Case {
  bool cpu_only = false;       // the trace has no device
  bool already_fused = false;  // its kernel is this library's
  bool target = false;         // the GPU is not the trace's
  const core::GpuModel* gpu = nullptr;
  std::optional<core::GpuWork> work;  // fused
  std::optional<double> now_us;       // what an instance holds up there as it is: its span if the GPU waits
};

// A saving below this share of the time is within what the model can be wrong by.
inline constexpr double kLeastSaving = 0.05;

// Sets baseline_us, limit_us, predicted_us, hypothetical_us, prediction_basis, verdict and reason. Returns the saving
// of an instance in microseconds, 0 unless the verdict is to fuse.
double judge(const Case& known, MlpRow& row);

}  // namespace fusedmlp::trace
