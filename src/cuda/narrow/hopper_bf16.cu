#include "cuda/narrow/hopper.cuh"

namespace fusedmlp::cuda::narrow {

Status hopper_bf16(const NarrowCall& call, cudaStream_t stream) {
  return launch_any_hopper<bf16, false>(call, stream);
}

}  // namespace fusedmlp::cuda::narrow
