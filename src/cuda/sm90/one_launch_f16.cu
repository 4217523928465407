#include "cuda/sm90/one_launch.cuh"

namespace fusedmlp::cuda::sm90 {

Status both_f16(const OneLaunchCall& call, bool gated, cudaStream_t stream) {
  return gated ? launch_both<__half, true>(call, stream) : launch_both<__half, false>(call, stream);
}

}  // namespace fusedmlp::cuda::sm90
