// float64, layer by layer: for gradcheck and for references, not for speed.
#pragma once

#include "tensors.h"

namespace fusedmlp::pytorch {

Tensor mlp_float64(const Tensor& x, const Operands& operands, const Problem& problem);

}  // namespace fusedmlp::pytorch
