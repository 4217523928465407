#include "cuda/sm80/gemm.cuh"

namespace fusedmlp::cuda::sm80 {

Status gemm_f16(const GemmCall& call, cudaStream_t stream) { return launch_any_gemm<f16, false>(call, stream); }

}  // namespace fusedmlp::cuda::sm80
