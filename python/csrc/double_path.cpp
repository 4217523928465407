#include "double_path.h"

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <vector>

#include "core/activation.h"

namespace fusedmlp::pytorch {
namespace {

// rows w^T + b, dense [tokens, out]
Tensor linear(const Tensor& rows, const Tensor& weight, const std::optional<Tensor>& bias) {
  Tensor y = torch::stable::contiguous(torch::stable::matmul(rows, torch::stable::transpose(weight, 0, 1)));
  if (!bias) return y;
  auto* data = static_cast<double*>(y.data_ptr());
  const auto* b = static_cast<const double*>(bias->data_ptr());
  const std::int64_t tokens = y.size(0);
  const std::int64_t width = y.size(1);
  const std::int64_t stride = bias->stride(0);
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t j = 0; j < width; ++j) data[i * width + j] += b[j * stride];
  }
  return y;
}

}  // namespace

Tensor mlp_float64(const Tensor& x, const Operands& o, const Problem& problem) {
  const MlpSpec& spec = problem.spec;
  const TensorInfo info = inspect(x);
  std::vector<std::int64_t> shape(info.sizes, info.sizes + info.dim);
  std::int64_t tokens = 1;
  for (std::int64_t i = 0; i + 1 < info.dim; ++i) tokens *= shape[static_cast<std::size_t>(i)];
  const Tensor rows = torch::stable::reshape(x, {tokens, spec.d_in});

  const Tensor up = linear(rows, o.w_up, o.b_up);
  Tensor hidden = up;
  if (spec.gated) {
    // Where gate and up of column j are in a row: separate, or one packed matrix.
    const Tensor gate = o.w_gate ? linear(rows, *o.w_gate, o.b_gate) : up;
    const bool interleaved = spec.gate_order == GateOrder::interleaved;
    const std::int64_t n = spec.d_hidden;
    const std::int64_t width = o.w_gate ? n : 2 * n;
    const std::int64_t step = !o.w_gate && interleaved ? 2 : 1;
    const std::int64_t half = interleaved ? 1 : n;
    const std::int64_t gate_at = !o.w_gate && spec.gate_order == GateOrder::last ? half : 0;
    const std::int64_t up_at = o.w_gate || spec.gate_order == GateOrder::last ? 0 : half;
    const std::int64_t sizes[2] = {tokens, n};
    hidden = empty(sizes, 2, aoti_torch_dtype_float64());
    auto* h = static_cast<double*>(hidden.data_ptr());
    const auto* g = static_cast<const double*>(gate.data_ptr());
    const auto* u = static_cast<const double*>(up.data_ptr());
    for (std::int64_t i = 0; i < tokens; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        h[i * n + j] = core::gated(spec, g[i * width + gate_at + j * step], u[i * width + up_at + j * step]);
      }
    }
  } else {
    auto* h = static_cast<double*>(hidden.data_ptr());
    const std::int64_t count = tokens * spec.d_hidden;
    for (std::int64_t i = 0; i < count; ++i) h[i] = core::activate(spec.activation, h[i]);
  }
  shape.back() = spec.d_out;
  return torch::stable::reshape(linear(hidden, o.w_down, o.b_down), shape);
}

}  // namespace fusedmlp::pytorch
