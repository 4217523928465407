#include "cuda/sm90/gemm.cuh"

namespace fusedmlp::cuda::sm90 {

Status gemm_bf16_gated(const GemmCall& call, cudaStream_t stream) {
  return launch_any_tile<__nv_bfloat16, true>(call, stream);
}

}  // namespace fusedmlp::cuda::sm90
