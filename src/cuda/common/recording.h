// Launches that are written down instead of queued, on the calling thread.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "core/launches.h"

namespace fusedmlp::cuda {

struct Launch;

// The list that launch() appends to, or null: it launches.
std::vector<core::LaunchRecord>*& recording() noexcept;

// Until the end of the scope this thread's launches go to `list`.
class Recording {
 public:
  explicit Recording(std::vector<core::LaunchRecord>& list) { recording() = &list; }
  ~Recording() { recording() = nullptr; }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

void record(const Launch& how, const void* kernel);

}  // namespace fusedmlp::cuda
