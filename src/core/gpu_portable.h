// What this library's kernels for every GPU from Ampere on take, where those written for Hopper do not run: the same
// for GPUs that are not here and in builds without CUDA.
#pragma once

#include <cstdint>

#include "core/gpu_model.h"
#include "core/kernel.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::core {

// Whether the portable kernels are all that there is. A GPU that is not known counts as one of these.
bool only_portable(const GpuModel& gpu) noexcept;

// Of a forward pass in bf16 or fp16. Empty where gpu_limit() is.
std::optional<Prediction> gpu_portable(const GpuModel& gpu, const MlpSpec& spec, std::int64_t tokens);
const char* gpu_portable_form(std::int64_t tokens) noexcept;  // "decode", "portable"

// A framework's own operations there: dispatch takes them where fusing_pays() says so.
double gpu_library_seconds(const GpuModel& gpu, const MlpSpec& spec, std::int64_t tokens) noexcept;

}  // namespace fusedmlp::core
