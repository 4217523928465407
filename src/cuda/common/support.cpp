#include "cuda/common/support.h"

#include "core/format.h"

namespace fusedmlp::cuda {

std::string unsupported_layout(const core::Query& query) {
  if (query.operands.in_out) return "reads weights that are [out, in]";
  if (query.operands.alignment < 16) {
    return core::format("needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got {}",
                        query.operands.alignment);
  }
  return {};
}

}  // namespace fusedmlp::cuda
