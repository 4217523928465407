#include "cuda/narrow/portable.cuh"

namespace fusedmlp::cuda::narrow {

Status portable_bf16_gated(const NarrowCall& call, cudaStream_t stream) {
  return launch_any_portable<bf16, true>(call, stream);
}

}  // namespace fusedmlp::cuda::narrow
