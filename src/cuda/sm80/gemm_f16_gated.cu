#include "cuda/sm80/gemm.cuh"

namespace fusedmlp::cuda::sm80 {

Status gemm_f16_gated(const GemmCall& call, cudaStream_t stream) { return launch_any_gemm<f16, true>(call, stream); }

}  // namespace fusedmlp::cuda::sm80
