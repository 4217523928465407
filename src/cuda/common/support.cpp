#include "cuda/common/support.h"

#include <algorithm>

#include "core/dispatch.h"
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

core::Prediction prediction(const core::Query& query, double seconds) {
  const core::Prediction limit = core::physical_limit(query.spec, query.tokens, query.device, query.threads);
  return {std::max(seconds, limit.seconds), limit.bound, Basis::modelled};
}

}  // namespace fusedmlp::cuda
