// From PyTorch tensors to this library's spec and views, with an error for everything that does not fit.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::pytorch {

using torch::stable::Tensor;

// Where gate and up are; the ops' `gate_order`.
enum class GateLayout : std::int64_t { plain, separate, packed_first, packed_last, packed_interleaved };

// The weights of one call as they came. With a packed layout w_up is gate_up and b_up its bias.
struct Operands {
  const std::optional<Tensor>& w_gate;
  const Tensor& w_up;
  const Tensor& w_down;
  const std::optional<Tensor>& b_gate;
  const std::optional<Tensor>& b_up;
  const std::optional<Tensor>& b_down;
  std::int64_t activation;
  std::int64_t gate_order;
  double alpha;
  double limit;
};

inline constexpr int kOperandTensors = 6;
// Slots in the order of the schema: w_gate, w_up, w_down, b_gate, b_up, b_down; null where absent.
const Tensor* operand(const Operands& operands, int slot);

// What a tensor is, read once: every member access of a stable Tensor is a call into libtorch. The arrays
// belong to the tensor.
struct TensorInfo {
  void* data = nullptr;
  const std::int64_t* sizes = nullptr;
  const std::int64_t* strides = nullptr;
  std::int64_t dim = 0;
  std::int32_t dtype = -1;  // torch's code
  Device device;
};

TensorInfo inspect(const Tensor& tensor);

// What identifies a tensor's contents, as far as PyTorch lets one know. `version` is -1 for inference tensors,
// whose changes PyTorch does not count, and where it was not asked for.
struct Fingerprint {
  const void* data;  // null: no such tensor
  std::int64_t sizes[2];
  std::int64_t strides[2];
  std::int64_t version;
  std::int32_t dtype;
  std::int32_t dim;
  std::int64_t reserved;
};

static_assert(sizeof(Fingerprint) == 64, "one cache line a tensor");

// Without a version. At most two dimensions are kept: operands have no more.
Fingerprint fingerprint(const TensorInfo& tensor);
// Whether memory, shape, strides and dtype are those of the fingerprint.
bool same_memory(const Fingerprint& f, const TensorInfo& tensor);
// The same, asking the tensor for no more than that. Its device goes with its memory.
bool same_memory(const Fingerprint& f, const Tensor& tensor);

struct Problem {
  MlpSpec spec;  // spec.dtype is meaningless when float64
  MlpWeights weights;
  bool float64 = false;
  Device device;  // of every tensor
  TensorInfo tensors[kOperandTensors];
};

// Throws std::runtime_error (RuntimeError in Python) that names the argument, what came and what is accepted.
Problem read_operands(const Operands& operands);

// x as rows: read in place when its last dimension is dense and the others collapse into one stride.
struct Rows {
  std::int64_t count = 0;
  std::int64_t stride = 0;  // elements
  bool in_place = false;
};

Rows rows_of(const TensorInfo& x);

// Throws unless x is [..., d_in] of the weights' dtype on their device.
void check_input(const TensorInfo& x, const Problem& problem);

[[noreturn]] void fail(const char* argument, const std::string& message);
std::string shape_text(const std::int64_t* values, std::int64_t count);  // "[2, 3]"

// A dense tensor, not filled, from PyTorch's allocator. `dtype` is torch's code.
Tensor empty(const std::int64_t* sizes, std::int64_t dim, std::int32_t dtype, Device device = Device::cpu());

// Whether the strides of every matrix and bias are such as this library reads in place.
bool readable(const Operands& operands);

}  // namespace fusedmlp::pytorch
