#include "fusedmlp/weights.h"

#include <cstdint>

#include "core/format.h"
#include "core/kernel.h"
#include "core/weight_rows.h"

namespace fusedmlp {
inline namespace v0 {
namespace {

// Keeps every byte offset within a view far below 2^63: see the extents in kMaxWidth.
constexpr std::int64_t kMaxStride = std::int64_t{1} << 36;

Status wrong(const char* member, std::string message) {
  return Status(StatusCode::invalid_argument, member, std::move(message));
}

Status check_pointer(const char* member, const void* data, DType dtype) {
  if (data == nullptr) return wrong(member, "is missing: data is null");
  if (reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) != 0) {
    return wrong(member, core::format("data must be aligned to the {} bytes of a {} element, got {}", size_of(dtype),
                                      to_string(dtype), data));
  }
  return {};
}

Status check_matrix(const char* member, const MatrixView& view, std::int64_t rows, std::int64_t cols, DType dtype) {
  if (Status status = check_pointer(member, view.data, dtype); !status) return status;
  if (view.rows != rows || view.cols != cols) {
    return wrong(member,
                 core::format("must be [{}, {}] ([out, in]), got [{}, {}]", rows, cols, view.rows, view.cols));
  }
  const bool rows_dense = (view.col_stride == 1 || cols == 1) && (view.row_stride >= cols || rows == 1);
  const bool cols_dense = (view.row_stride == 1 || rows == 1) && (view.col_stride >= rows || cols == 1);
  if (!rows_dense && !cols_dense) {
    return wrong(member, core::format("must have col_stride 1 and row_stride >= {} ([out, in]) or row_stride 1 and "
                                      "col_stride >= {} ([in, out]), got row_stride {} and col_stride {}",
                                      cols, rows, view.row_stride, view.col_stride));
  }
  if ((rows > 1 && view.row_stride > kMaxStride) || (cols > 1 && view.col_stride > kMaxStride)) {
    return wrong(member, core::format("strides must be at most {}, got row_stride {} and col_stride {}", kMaxStride,
                                      view.row_stride, view.col_stride));
  }
  return {};
}

Status check_vector(const char* member, const VectorView& view, std::int64_t size, DType dtype) {
  if (Status status = check_pointer(member, view.data, dtype); !status) return status;
  if (view.size != size) return wrong(member, core::format("must have {} elements, got {}", size, view.size));
  if (size > 1 && (view.stride < 1 || view.stride > kMaxStride)) {
    return wrong(member, core::format("stride must be from 1 to {}, got {}", kMaxStride, view.stride));
  }
  return {};
}

Status check_empty(const char* member, const void* data, const char* why) {
  if (data == nullptr) return {};
  return wrong(member, core::format("must stay empty (data == nullptr): {}", why));
}

// A bias is there exactly when the spec says so.
Status check_bias(const char* member, const VectorView& view, bool wanted, std::int64_t size, DType dtype) {
  return wanted ? check_vector(member, view, size, dtype)
                : check_empty(member, view.data, "the spec has no such bias");
}

Status check_hidden(const MlpSpec& spec, const MlpWeights& w) {
  const DType dtype = spec.dtype;
  if (!spec.gated || w.gate_up.data == nullptr) {
    constexpr const char* kApart = "gate and up are given apart";
    const char* why = spec.gated ? kApart : "a plain MLP has up and down only";
    if (Status s = check_empty("gate_up", w.gate_up.data, why); !s) return s;
    if (Status s = check_empty("bias_gate_up", w.bias_gate_up.data, why); !s) return s;
    if (spec.gated) {
      if (w.gate.data == nullptr && w.up.data == nullptr) {
        return wrong("gate", "is missing: a gated MLP needs gate and up, or gate_up");
      }
      if (Status s = check_matrix("gate", w.gate, spec.d_hidden, spec.d_in, dtype); !s) return s;
      if (Status s = check_bias("bias_gate", w.bias_gate, spec.bias_gate, spec.d_hidden, dtype); !s) return s;
    } else {
      if (Status s = check_empty("gate", w.gate.data, why); !s) return s;
      if (Status s = check_empty("bias_gate", w.bias_gate.data, why); !s) return s;
    }
    if (Status s = check_matrix("up", w.up, spec.d_hidden, spec.d_in, dtype); !s) return s;
    return check_bias("bias_up", w.bias_up, spec.bias_up, spec.d_hidden, dtype);
  }
  constexpr const char* kPacked = "gate_up holds both";
  if (Status s = check_empty("gate", w.gate.data, kPacked); !s) return s;
  if (Status s = check_empty("up", w.up.data, kPacked); !s) return s;
  if (Status s = check_matrix("gate_up", w.gate_up, 2 * spec.d_hidden, spec.d_in, dtype); !s) return s;
  constexpr const char* kPackedBias = "the bias of gate_up is bias_gate_up";
  if (Status s = check_empty("bias_gate", w.bias_gate.data, kPackedBias); !s) return s;
  if (Status s = check_empty("bias_up", w.bias_up.data, kPackedBias); !s) return s;
  if (spec.bias_gate != spec.bias_up) {
    return wrong("bias_gate_up", core::format("holds both biases, so spec.bias_gate and spec.bias_up must be equal, "
                                              "got {} and {}",
                                              spec.bias_gate, spec.bias_up));
  }
  return check_bias("bias_gate_up", w.bias_gate_up, spec.bias_up, 2 * spec.d_hidden, dtype);
}

}  // namespace

Status validate(const MlpSpec& spec, const MlpWeights& weights) {
  if (Status status = validate(spec); !status) return status;
  if (Status status = check_hidden(spec, weights); !status) return status;
  if (Status status = check_matrix("down", weights.down, spec.d_out, spec.d_hidden, spec.dtype); !status)
    return status;
  return check_bias("bias_down", weights.bias_down, spec.bias_down, spec.d_out, spec.dtype);
}

}  // namespace v0

namespace core {
namespace {

const void* offset(const void* data, std::int64_t elements, DType dtype) {
  return static_cast<const char*>(data) + elements * static_cast<std::int64_t>(size_of(dtype));
}

MatrixView plain_strides(MatrixView view) {
  if (view.data == nullptr) return view;
  if (view.cols <= 1) {
    view.col_stride = 1;
    if (view.rows <= 1) view.row_stride = 1;
  } else if (view.rows <= 1) {
    view.row_stride = view.col_stride == 1 ? view.cols : 1;
  }
  return view;
}

VectorView plain_strides(VectorView view) {
  if (view.size <= 1) view.stride = 1;
  return view;
}

}  // namespace

HiddenWeights resolve(const MlpSpec& spec, const MlpWeights& weights) {
  if (!spec.gated) return {{}, weights.up, {}, weights.bias_up};
  if (weights.gate_up.data == nullptr) return {weights.gate, weights.up, weights.bias_gate, weights.bias_up};

  const std::int64_t step = spec.gate_order == GateOrder::interleaved ? 2 : 1;
  const std::int64_t apart = spec.gate_order == GateOrder::interleaved ? 1 : spec.d_hidden;
  const std::int64_t gate_at = spec.gate_order == GateOrder::last ? apart : 0;
  const std::int64_t up_at = spec.gate_order == GateOrder::last ? 0 : apart;

  const MatrixView& m = weights.gate_up;
  const VectorView& b = weights.bias_gate_up;
  const auto rows_from = [&](std::int64_t row) {
    return MatrixView{offset(m.data, row * m.row_stride, spec.dtype), spec.d_hidden, m.cols, step * m.row_stride,
                      m.col_stride};
  };
  const auto bias_from = [&](std::int64_t row) {
    if (b.data == nullptr) return VectorView{};
    return VectorView{offset(b.data, row * b.stride, spec.dtype), spec.d_hidden, step * b.stride};
  };
  return {rows_from(gate_at), rows_from(up_at), bias_from(gate_at), bias_from(up_at)};
}

MlpWeights normalized(const MlpWeights& weights) {
  return {plain_strides(weights.gate),         plain_strides(weights.up),        plain_strides(weights.gate_up),
          plain_strides(weights.down),         plain_strides(weights.bias_gate), plain_strides(weights.bias_up),
          plain_strides(weights.bias_gate_up), plain_strides(weights.bias_down)};
}

ByteRange bytes_of(const MatrixView& view, DType dtype) {
  if (view.data == nullptr) return {};
  const auto begin = reinterpret_cast<std::uintptr_t>(view.data);
  const std::int64_t last = (view.rows - 1) * view.row_stride + (view.cols - 1) * view.col_stride;
  return {begin, begin + static_cast<std::uintptr_t>(last + 1) * size_of(dtype)};
}

ByteRange bytes_of(const VectorView& view, DType dtype) {
  if (view.data == nullptr) return {};
  const auto begin = reinterpret_cast<std::uintptr_t>(view.data);
  return {begin, begin + static_cast<std::uintptr_t>((view.size - 1) * view.stride + 1) * size_of(dtype)};
}

OperandLayout layout_of(const MlpSpec& spec, const MlpWeights& weights, const RunArgs& args) {
  OperandLayout layout;
  std::uintptr_t bits = 0;  // of every address and row stride in bytes
  const auto rows = [&](const void* data, std::int64_t stride) {
    bits |= reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride) * size_of(spec.dtype);
  };
  rows(args.x, args.tokens > 1 ? args.ldx : 0);
  rows(args.y, args.tokens > 1 ? args.ldy : 0);
  for (const MatrixView* m : {&weights.gate, &weights.up, &weights.gate_up, &weights.down}) {
    if (m->data == nullptr) continue;
    const bool rows_dense = m->col_stride == 1;
    const std::int64_t lines = rows_dense ? m->rows : m->cols;  // a stride of one line is never used
    rows(m->data, lines == 1 ? 0 : rows_dense ? m->row_stride : m->col_stride);
    layout.in_out = layout.in_out || !rows_dense;
  }
  while (bits % static_cast<std::uintptr_t>(layout.alignment) != 0) layout.alignment /= 2;
  layout.joined = weights.gate_up.data != nullptr;
  for (const VectorView* b : {&weights.bias_gate, &weights.bias_up, &weights.bias_gate_up, &weights.bias_down}) {
    layout.strided_biases = layout.strided_biases || (b->data != nullptr && b->stride != 1);
  }
  return layout;
}

}  // namespace core
}  // namespace fusedmlp
