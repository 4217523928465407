#include "cuda/matvec/launch.cuh"

namespace fusedmlp::cuda::matvec {

Status mlp_f16(const Call& call, cudaStream_t stream) { return launch_any<f16>(call, stream); }

}  // namespace fusedmlp::cuda::matvec
