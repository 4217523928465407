#include "cuda/narrow/portable.cuh"

namespace fusedmlp::cuda::narrow {

Status portable_bf16(const NarrowCall& call, cudaStream_t stream) {
  return launch_any_portable<bf16, false>(call, stream);
}

}  // namespace fusedmlp::cuda::narrow
