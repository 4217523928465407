// The ordered table of GPU kernels.
#include "core/kernel.h"
#include "cuda/entries.h"

namespace fusedmlp::core {

std::span<const KernelEntry> cuda_kernels() {
  static const KernelEntry table[] = {
#ifdef FUSEDMLP_EXPERIMENTAL_SM90  // not yet run under the sanitizers as it stands: docs/lab-notes.md
      cuda::prefill_kernel(),
#endif
      cuda::decode_kernel(),
      cuda::portable_kernel(),
      cuda::layers_kernel(),
  };
  return table;
}

}  // namespace fusedmlp::core
