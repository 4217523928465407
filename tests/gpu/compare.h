// Comparing on the device, so that every one of a million results is looked at without a copy or a wait.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace fusedmlp::test {

struct Mismatches {
  unsigned long long words = 0;  // 32-bit words that differ
  unsigned first_case = ~0u;     // the least number of a comparison in which one did
};

// Queues: adds the words in which y differs from `want` to *found and leaves y 0xff, so that a run that writes
// nothing is seen next time. `bytes` is rounded up to whole words.
void queue_compare(void* y, const void* want, std::size_t bytes, unsigned number, Mismatches* found,
                   cudaStream_t stream);

}  // namespace fusedmlp::test
