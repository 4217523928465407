#include "cuda/narrow/hopper.cuh"

namespace fusedmlp::cuda::narrow {

Status hopper_f16(const NarrowCall& call, cudaStream_t stream) { return launch_any_hopper<f16, false>(call, stream); }

}  // namespace fusedmlp::cuda::narrow
