// Launches that are written down instead of queued, on the calling thread.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "core/launches.h"

namespace fusedmlp::cuda {

struct Launch;

// The list that launch() appends to, or null: it launches.
std::vector<core::LaunchRecord>*& recording() noexcept;

void record(const Launch& how, const void* kernel);

}  // namespace fusedmlp::cuda
