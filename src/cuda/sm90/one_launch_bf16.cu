#include "cuda/sm90/one_launch.cuh"

namespace fusedmlp::cuda::sm90 {

Status both_bf16(const OneLaunchCall& call, bool gated, cudaStream_t stream) {
  return gated ? launch_both<__nv_bfloat16, true>(call, stream) : launch_both<__nv_bfloat16, false>(call, stream);
}

}  // namespace fusedmlp::cuda::sm90
