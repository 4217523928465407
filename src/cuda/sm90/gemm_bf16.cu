#include "cuda/sm90/gemm.cuh"

namespace fusedmlp::cuda::sm90 {

Status gemm_bf16(const GemmCall& call, cudaStream_t stream) {
  return launch_any_tile<__nv_bfloat16, false>(call, stream);
}

}  // namespace fusedmlp::cuda::sm90
