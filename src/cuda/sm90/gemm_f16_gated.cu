#include "cuda/sm90/gemm.cuh"

namespace fusedmlp::cuda::sm90 {

Status gemm_f16_gated(const GemmCall& call, cudaStream_t stream) {
  return launch_any_tile<__half, true>(call, stream);
}

}  // namespace fusedmlp::cuda::sm90
