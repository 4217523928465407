#include "gpu/compare.h"

namespace fusedmlp::test {
namespace {

__global__ void compare_kernel(std::uint32_t* y, const std::uint32_t* want, unsigned words, unsigned number,
                               Mismatches* found) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < words; i += gridDim.x * blockDim.x) {
    if (y[i] != want[i]) {
      atomicAdd(&found->words, 1ull);
      atomicMin(&found->first_case, number);
    }
    y[i] = ~0u;
  }
}

}  // namespace

void queue_compare(void* y, const void* want, std::size_t bytes, unsigned number, Mismatches* found,
                   cudaStream_t stream) {
  constexpr unsigned kThreads = 256;
  const auto words = static_cast<unsigned>((bytes + 3) / 4);
  compare_kernel<<<(words + 4 * kThreads - 1) / (4 * kThreads), kThreads, 0, stream>>>(
      static_cast<std::uint32_t*>(y), static_cast<const std::uint32_t*>(want), words, number, found);
}

}  // namespace fusedmlp::test
