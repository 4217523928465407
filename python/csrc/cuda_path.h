// mlp on a GPU.
#pragma once

#include "tensors.h"

namespace fusedmlp::pytorch {

// Fused, on the current stream of x's device, the workspace from PyTorch's allocator; or by torch's own operations
// (fusedmlp::mlp_unfused) where no kernel of this library would be faster: dispatch chose its own layer-by-layer
// entry, predicts less for a GEMM library's products, the GPU or driver is not supported, or the dtype or strides are
// not. FUSEDMLP_KERNEL makes it fused whatever is predicted.
Tensor compute_on_gpu(const Tensor& x, const Operands& operands);

}  // namespace fusedmlp::pytorch
