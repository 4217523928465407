#include "tensors.h"

#include <torch/csrc/stable/stableivalue_conversions.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

namespace fusedmlp::pytorch {
namespace {

constexpr const char* kNames[kOperandTensors] = {"w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down"};
enum Slot { kGate, kUp, kDown, kBiasGate, kBiasUp, kBiasDown };

std::string dtype_text(std::int32_t code) {
  if (code == aoti_torch_dtype_float32()) return "float32";
  if (code == aoti_torch_dtype_bfloat16()) return "bfloat16";
  if (code == aoti_torch_dtype_float16()) return "float16";
  if (code == aoti_torch_dtype_float64()) return "float64";
  return "another dtype (code " + std::to_string(code) + ")";
}

Device device_of(const Tensor& tensor) {
  std::int32_t type = 0;
  std::int32_t index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &type));
  if (type == aoti_torch_device_type_cpu()) return Device::cpu();
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor.get(), &index));
  return Device::cuda(index);  // the operators are registered for these two
}

void check_device(const TensorInfo& info, const char* name, Device expected) {
  if (info.device == expected) return;
  fail(name, "must be on " + to_string(expected) + " like w_up, got " + to_string(info.device));
}

DType read_dtype(std::int32_t code, bool* float64) {
  *float64 = false;
  if (code == aoti_torch_dtype_float32()) return DType::f32;
  if (code == aoti_torch_dtype_bfloat16()) return DType::bf16;
  if (code == aoti_torch_dtype_float16()) return DType::f16;
  if (code == aoti_torch_dtype_float64()) {
    *float64 = true;
    return DType::f32;
  }
  fail("w_up", "dtype must be float32, bfloat16, float16 or float64, got " + dtype_text(code));
}

void check_shape(const TensorInfo& info, const char* name, std::initializer_list<std::int64_t> expected,
                 const char* meaning) {
  if (info.dim == static_cast<std::int64_t>(expected.size()) &&
      std::equal(expected.begin(), expected.end(), info.sizes)) {
    return;
  }
  fail(name, "shape must be " + std::string(meaning) + " = " +
                 shape_text(expected.begin(), static_cast<std::int64_t>(expected.size())) + ", got " +
                 shape_text(info.sizes, info.dim));
}

// One stride is 1 and the other spans it. Extents of 0 and 1 make their stride meaningless: it is set to what
// the view expects.
MatrixView matrix(const TensorInfo& info, const char* name) {
  const std::int64_t rows = info.sizes[0];
  const std::int64_t cols = info.sizes[1];
  const std::int64_t row_stride = info.strides[0];
  const std::int64_t col_stride = info.strides[1];
  if (col_stride == 1 || cols <= 1) {
    if (rows <= 1) return {info.data, rows, cols, std::max<std::int64_t>(cols, 1), 1};
    if (row_stride >= std::max<std::int64_t>(cols, 1)) return {info.data, rows, cols, row_stride, 1};
  }
  if (row_stride == 1 || rows <= 1) {
    if (cols <= 1) return {info.data, rows, cols, 1, std::max<std::int64_t>(rows, 1)};
    if (col_stride >= std::max<std::int64_t>(rows, 1)) return {info.data, rows, cols, 1, col_stride};
  }
  fail(name, "one stride must be 1 and the other at least that dimension's size, got strides " +
                 shape_text(info.strides, 2) + " for shape " + shape_text(info.sizes, 2) +
                 "; pass a contiguous() copy");
}

VectorView vector(const TensorInfo& info, const char* name) {
  const std::int64_t size = info.sizes[0];
  if (size <= 1) return {info.data, size, 1};
  if (info.strides[0] < 1) {
    fail(name, "stride must be at least 1, got " + std::to_string(info.strides[0]) + "; pass a contiguous() copy");
  }
  return {info.data, size, info.strides[0]};
}

}  // namespace

void fail(const char* argument, const std::string& message) {
  throw std::runtime_error("fusedmlp: " + std::string(argument) + ": " + message);
}

std::string shape_text(const std::int64_t* values, std::int64_t count) {
  std::string text = "[";
  for (std::int64_t i = 0; i < count; ++i) text += (i ? ", " : "") + std::to_string(values[i]);
  return text + "]";
}

const Tensor* operand(const Operands& o, int slot) {
  switch (slot) {
    case kGate: return o.w_gate ? &*o.w_gate : nullptr;
    case kUp: return &o.w_up;
    case kDown: return &o.w_down;
    case kBiasGate: return o.b_gate ? &*o.b_gate : nullptr;
    case kBiasUp: return o.b_up ? &*o.b_up : nullptr;
    case kBiasDown: return o.b_down ? &*o.b_down : nullptr;
  }
  return nullptr;
}

namespace {

TensorInfo inspect_memory(const Tensor& tensor) {
  TensorInfo info;
  std::int64_t* sizes = nullptr;
  std::int64_t* strides = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(tensor.get(), &info.dim));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(tensor.get(), &sizes));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(tensor.get(), &strides));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &info.dtype));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(tensor.get(), &info.data));
  info.sizes = sizes;
  info.strides = strides;
  return info;
}

}  // namespace

TensorInfo inspect(const Tensor& tensor) {
  TensorInfo info = inspect_memory(tensor);
  info.device = device_of(tensor);
  return info;
}

Fingerprint fingerprint(const TensorInfo& tensor) {
  Fingerprint f{};
  f.data = tensor.data;
  f.version = -1;
  f.dtype = tensor.dtype;
  f.dim = static_cast<std::int32_t>(tensor.dim);
  for (std::int64_t i = 0; i < std::min<std::int64_t>(tensor.dim, 2); ++i) {
    f.sizes[i] = tensor.sizes[i];
    f.strides[i] = tensor.strides[i];
  }
  return f;
}

bool same_memory(const Fingerprint& f, const TensorInfo& tensor) {
  if (f.data != tensor.data || f.dim != tensor.dim || f.dtype != tensor.dtype) return false;
  for (std::int64_t i = 0; i < tensor.dim; ++i) {
    if (f.sizes[i] != tensor.sizes[i] || f.strides[i] != tensor.strides[i]) return false;
  }
  return true;
}

bool same_memory(const Fingerprint& f, const Tensor& tensor) { return same_memory(f, inspect_memory(tensor)); }

Problem read_operands(const Operands& o) {
  if (o.activation < 0 || o.activation >= kActivationCount) {
    fail("activation",
         "must be in [0, " + std::to_string(kActivationCount) + "), got " + std::to_string(o.activation));
  }
  if (o.gate_order < 0 || o.gate_order > 4) {
    fail("gate_order",
         "must be 0 (plain), 1 (separate), 2 (packed, gate first), 3 (packed, gate last) or "
         "4 (interleaved), got " +
             std::to_string(o.gate_order));
  }
  const auto layout = static_cast<GateLayout>(o.gate_order);
  const bool separate = layout == GateLayout::separate;
  const bool packed = o.gate_order >= 2;
  if (separate != o.w_gate.has_value()) {
    fail("w_gate", separate ? "is required with gate_order 1" : "must be absent unless gate_order is 1");
  }
  if (!separate && o.b_gate) fail("b_gate", "must be absent unless gate_order is 1");

  Problem p;
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    if (const Tensor* tensor = operand(o, slot)) {
      p.tensors[slot] = inspect(*tensor);
    }
  }
  const TensorInfo* t = p.tensors;
  p.device = t[kUp].device;
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    if (operand(o, slot) != nullptr) check_device(t[slot], kNames[slot], p.device);
  }
  p.spec.dtype = read_dtype(t[kUp].dtype, &p.float64);
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    if (operand(o, slot) != nullptr && t[slot].dtype != t[kUp].dtype) {
      fail(kNames[slot],
           "dtype must be that of w_up (" + dtype_text(t[kUp].dtype) + "), got " + dtype_text(t[slot].dtype));
    }
  }

  if (t[kUp].dim != 2)
    fail("w_up", "must have 2 dimensions [out, in], got shape " + shape_text(t[kUp].sizes, t[kUp].dim));
  if (t[kDown].dim != 2)
    fail("w_down", "must have 2 dimensions [out, in], got shape " + shape_text(t[kDown].sizes, t[kDown].dim));
  const std::int64_t up_rows = t[kUp].sizes[0];
  if (packed && up_rows % 2 != 0) {
    fail("w_up",
         "must have an even number of rows (2 * d_hidden) with a packed gate, got " + std::to_string(up_rows));
  }
  MlpSpec& spec = p.spec;
  spec.d_in = t[kUp].sizes[1];
  spec.d_hidden = packed ? up_rows / 2 : up_rows;
  spec.d_out = t[kDown].sizes[0];
  spec.activation = static_cast<Activation>(o.activation);
  spec.gated = layout != GateLayout::plain;
  spec.gate_order = packed ? static_cast<GateOrder>(o.gate_order - 2) : GateOrder::first;
  spec.bias_up = o.b_up.has_value();
  spec.bias_gate = packed ? spec.bias_up : o.b_gate.has_value();
  spec.bias_down = o.b_down.has_value();
  spec.alpha = static_cast<float>(o.alpha);
  spec.limit = static_cast<float>(o.limit);

  check_shape(t[kDown], "w_down", {spec.d_out, spec.d_hidden}, "[d_out, d_hidden]");
  p.weights.down = matrix(t[kDown], "w_down");
  if (separate) {
    check_shape(t[kGate], "w_gate", {spec.d_hidden, spec.d_in}, "[d_hidden, d_in]");
    p.weights.gate = matrix(t[kGate], "w_gate");
  }
  (packed ? p.weights.gate_up : p.weights.up) = matrix(t[kUp], "w_up");
  if (o.b_gate) {
    check_shape(t[kBiasGate], "b_gate", {spec.d_hidden}, "[d_hidden]");
    p.weights.bias_gate = vector(t[kBiasGate], "b_gate");
  }
  if (o.b_up) {
    check_shape(t[kBiasUp], "b_up", {up_rows}, packed ? "[2 * d_hidden]" : "[d_hidden]");
    (packed ? p.weights.bias_gate_up : p.weights.bias_up) = vector(t[kBiasUp], "b_up");
  }
  if (o.b_down) {
    check_shape(t[kBiasDown], "b_down", {spec.d_out}, "[d_out]");
    p.weights.bias_down = vector(t[kBiasDown], "b_down");
  }
  return p;
}

void check_input(const TensorInfo& x, const Problem& problem) {
  check_device(x, "x", problem.device);
  const std::int32_t dtype = problem.tensors[kUp].dtype;
  if (x.dtype != dtype) {
    fail("x", "dtype must be that of the weights (" + dtype_text(dtype) + "), got " + dtype_text(x.dtype));
  }
  const std::int64_t d_in = problem.spec.d_in;
  if (x.dim < 1 || x.sizes[x.dim - 1] != d_in) {
    fail("x",
         "shape must be [..., d_in] with d_in = " + std::to_string(d_in) + ", got " + shape_text(x.sizes, x.dim));
  }
}

Rows rows_of(const TensorInfo& x) {
  const std::int64_t last = x.dim - 1;
  const std::int64_t width = x.sizes[last];
  Rows rows{1, width, x.strides[last] == 1 || width <= 1};
  // `span` is the stride the next outer dimension needs to continue the one before it.
  std::int64_t span = -1;
  for (std::int64_t i = last - 1; i >= 0; --i) {
    const std::int64_t size = x.sizes[i];
    rows.count *= size;
    if (size == 1) continue;
    if (span < 0) {
      rows.stride = x.strides[i];
    } else if (x.strides[i] != span) {
      rows.in_place = false;
    }
    span = x.strides[i] * size;
  }
  if (rows.count <= 1) {
    rows.stride = width;
  } else if (rows.stride < width) {
    rows.in_place = false;  // expanded or overlapping rows
  }
  return rows;
}

Tensor empty(const std::int64_t* sizes, std::int64_t dim, std::int32_t dtype, Device device) {
  std::array<std::int64_t, 8> small;
  std::vector<std::int64_t> large;
  std::int64_t* strides = small.data();
  if (dim > static_cast<std::int64_t>(small.size())) {
    large.resize(static_cast<std::size_t>(dim));
    strides = large.data();
  }
  std::int64_t stride = 1;
  for (std::int64_t i = dim - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(sizes[i], 1);
  }
  AtenTensorHandle handle = nullptr;
  const std::int32_t type =
      device.type == DeviceType::cpu ? aoti_torch_device_type_cpu() : aoti_torch_device_type_cuda();
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dim, sizes, strides, dtype, type, device.index, &handle));
  return Tensor(handle);
}

bool readable(const Operands& operands) {
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    const Tensor* tensor = operand(operands, slot);
    if (tensor == nullptr) continue;
    const TensorInfo info = inspect(*tensor);
    if (slot >= kBiasGate) {
      if (info.dim == 1 && info.sizes[0] > 1 && info.strides[0] < 1) return false;
    } else if (info.dim == 2) {
      const std::int64_t rows = info.sizes[0];
      const std::int64_t cols = info.sizes[1];
      const bool rows_dense = (info.strides[1] == 1 || cols <= 1) && (rows <= 1 || info.strides[0] >= cols);
      const bool cols_dense = (info.strides[0] == 1 || rows <= 1) && (cols <= 1 || info.strides[1] >= rows);
      if (!rows_dense && !cols_dense) return false;
    }
  }
  return true;
}

}  // namespace fusedmlp::pytorch
