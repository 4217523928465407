// A ring of shared-memory stages.
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::sm90 {

// Position in a ring of kStages, with the parity of the pass.
template <int kStages>
struct Ring {
  std::uint32_t stage = 0, parity = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  __device__ void advance(std::uint32_t n) {
    const std::uint32_t position = stage + n;
    parity ^= (position / kStages) & 1;
    stage = position % kStages;
  }
};

}  // namespace fusedmlp::cuda::sm90
