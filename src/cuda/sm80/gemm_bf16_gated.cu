#include "cuda/sm80/gemm.cuh"

namespace fusedmlp::cuda::sm80 {

Status gemm_bf16_gated(const GemmCall& call, cudaStream_t stream) {
  return launch_any_gemm<bf16, true>(call, stream);
}

}  // namespace fusedmlp::cuda::sm80
