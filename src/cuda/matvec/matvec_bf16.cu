#include "cuda/matvec/launch.cuh"

namespace fusedmlp::cuda::matvec {

Status mlp_bf16(const Call& call, cudaStream_t stream) { return launch_any<bf16>(call, stream); }

}  // namespace fusedmlp::cuda::matvec
