#include "cuda/sm90/split.cuh"

namespace fusedmlp::cuda::sm90 {

Status split_bf16(const GemmCall& call, int split, cudaStream_t stream) {
  return launch_split<bf16>(call, split, stream);
}

}  // namespace fusedmlp::cuda::sm90
