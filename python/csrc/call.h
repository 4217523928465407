// What one call of an operator needs on any device.
#pragma once

#include <optional>

#include "fusedmlp/plan.h"
#include "tensors.h"

namespace fusedmlp::pytorch {

// Throws std::runtime_error unless ok.
void check(const Status& status);

// x as rows, copied only where it must be, and a new y.
struct RowsCall {
  RowsCall(const Tensor& x, const TensorInfo& info, const Problem& problem);

  std::optional<Tensor> dense;  // keeps a copy of x alive
  Tensor y;
  RunArgs args;  // x, ldx, y, tokens
};

}  // namespace fusedmlp::pytorch
