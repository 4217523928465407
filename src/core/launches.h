// What a kernel entry would launch on a GPU, without launching it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace fusedmlp::core {

struct LaunchRecord {
  std::string what;  // tile and stages, in the kernel's own words; may be empty
  int blocks = 0;
  int threads = 0;               // of a block
  std::size_t shared_bytes = 0;  // of a block, static and dynamic
  int registers = 0;             // of a thread
  int times = 1;                 // in a row

  friend bool operator==(const LaunchRecord&, const LaunchRecord&) = default;
};
std::string to_string(const LaunchRecord& record);

// In order; nothing runs and no tensor is touched. Empty where the entry is no GPU's or does not support the query.
std::vector<LaunchRecord> launches(const KernelEntry& entry, const Query& query);

// The backend's part of it, defined by src/cuda.
std::vector<LaunchRecord> cuda_launches(const KernelEntry& entry, const Query& query);

}  // namespace fusedmlp::core
