// The ordered table of GPU kernels.
#include "core/kernel.h"
#include "cuda/entries.h"

namespace fusedmlp::core {

std::span<const KernelEntry> cuda_kernels() {
  static const KernelEntry table[] = {
      cuda::prefill_kernel(), cuda::decode_kernel(),   cuda::cluster_kernel(), cuda::narrow_hopper_kernel(),
      cuda::narrow_kernel(),  cuda::portable_kernel(), cuda::layers_kernel(),
  };
  return table;
}

}  // namespace fusedmlp::core
