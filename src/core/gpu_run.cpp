#include "core/gpu_run.h"

namespace fusedmlp::core {

OperandLayout dense_layout(const MlpSpec& spec) {
  OperandLayout layout;
  // The rows of the three matrices; x's are as long as the first product's, y's as long as d_out.
  for (const std::int64_t width : {spec.d_in, spec.d_hidden, spec.d_out}) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(width) * size_of(spec.dtype);
    while (bytes % static_cast<std::uint64_t>(layout.alignment) != 0) layout.alignment /= 2;
  }
  return layout;
}

}  // namespace fusedmlp::core
