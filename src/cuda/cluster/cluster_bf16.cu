#include "cuda/cluster/launch.cuh"

namespace fusedmlp::cuda::cluster {

Status mlp_bf16(const Call& call, cudaStream_t stream) { return launch_mlp<bf16>(call, stream); }

}  // namespace fusedmlp::cuda::cluster
