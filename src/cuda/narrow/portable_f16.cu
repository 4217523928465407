#include "cuda/narrow/portable.cuh"

namespace fusedmlp::cuda::narrow {

Status portable_f16(const NarrowCall& call, cudaStream_t stream) {
  return launch_any_portable<f16, false>(call, stream);
}

}  // namespace fusedmlp::cuda::narrow
