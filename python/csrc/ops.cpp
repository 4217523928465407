// fusedmlp::mlp, mlp_packed, pack and packed_size: schemas, the CPU implementation, and on GPUs mlp and mlp_packed.
// Fake, autograd, autocast and vmap rules are registered from Python, and so is mlp_unfused: torch's own operations,
// which the GPU's mlp calls where they are the better choice.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "call.h"
#include "cuda_path.h"
#include "double_path.h"
#include "executor.h"
#include "fusedmlp/packed.h"
#include "packed_tensor.h"
#include "prepared.h"
#include "tensors.h"

namespace fusedmlp::pytorch {
namespace {

using OptionalTensor = std::optional<Tensor>;

Tensor compute_on_cpu(const Tensor& x, const TensorInfo& info, const Problem& problem, const void* payload) {
  RowsCall call(x, info, problem);
  TorchExecutor executor;
  call.args.executor = &executor;
  check(run(problem.spec, problem.weights, payload, call.args, Device::cpu()));
  if (executor.failed()) fail("threads", "PyTorch's parallel_for reported an error");
  return call.y;
}

Tensor mlp(const Tensor& x, const OptionalTensor& w_gate, const Tensor& w_up, const Tensor& w_down,
           const OptionalTensor& b_gate, const OptionalTensor& b_up, const OptionalTensor& b_down,
           std::int64_t activation, std::int64_t gate_order, double alpha, double limit) {
  const Operands operands{w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit};
  const Problem problem = read_operands(operands);
  const TensorInfo info = inspect(x);
  check_input(info, problem);
  if (problem.float64) {
    check(validate(problem.spec));
    return mlp_float64(x, operands, problem);
  }
  return compute_on_cpu(x, info, problem, nullptr);
}

Tensor mlp_packed(const Tensor& x, const Tensor& packed, const OptionalTensor& w_gate, const Tensor& w_up,
                  const Tensor& w_down, const OptionalTensor& b_gate, const OptionalTensor& b_up,
                  const OptionalTensor& b_down, std::int64_t activation, std::int64_t gate_order, double alpha,
                  double limit) {
  const Operands operands{w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit};
  const Problem problem = read_operands(operands);
  const TensorInfo info = inspect(x);
  check_input(info, problem);
  if (problem.float64) fail("w_up", "dtype must be float32, bfloat16 or float16 with a packed copy, got float64");
  const TensorInfo copy = inspect(packed);
  if (copy.dtype != aoti_torch_dtype_uint8() || copy.dim != 1 || (copy.sizes[0] > 1 && copy.strides[0] != 1)) {
    fail("packed",
         "must be the uint8 tensor that fusedmlp::pack returned, got shape " + shape_text(copy.sizes, copy.dim));
  }
  return compute_on_cpu(x, info, problem, fresh_payload(copy, operands, problem));
}

Tensor pack(const OptionalTensor& w_gate, const Tensor& w_up, const Tensor& w_down, const OptionalTensor& b_gate,
            const OptionalTensor& b_up, const OptionalTensor& b_down, std::int64_t activation,
            std::int64_t gate_order, double alpha, double limit) {
  const Operands operands{w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit};
  const Problem problem = read_operands(operands);
  if (problem.float64) fail("w_up", "dtype must be float32, bfloat16 or float16 to be packed, got float64");
  check(validate(problem.spec));
  return make_packed(operands, problem);
}

// A handle for these weights and their fresh packed copy; release() it.
std::int64_t prepare(const Tensor& packed, const OptionalTensor& w_gate, const Tensor& w_up, const Tensor& w_down,
                     const OptionalTensor& b_gate, const OptionalTensor& b_up, const OptionalTensor& b_down,
                     std::int64_t activation, std::int64_t gate_order, double alpha, double limit) {
  const Operands operands{w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit};
  return keep(std::make_shared<Prepared>(packed, operands));
}

// mlp_packed on the weights of a handle, whose contents must be those of prepare(): the caller compares version
// counters, which cost much more here.
Tensor mlp_prepared(const Tensor& x, std::int64_t handle) {
  const std::shared_ptr<const Prepared> prepared = find(handle);
  if (prepared->moved()) {
    mark_stale(prepared->packed);
    const Operands now = prepared->operands();
    return mlp(x, now.w_gate, now.w_up, now.w_down, now.b_gate, now.b_up, now.b_down, now.activation, now.gate_order,
               now.alpha, now.limit);
  }
  const TensorInfo info = inspect(x);
  check_input(info, prepared->problem);
  return compute_on_cpu(x, info, prepared->problem, prepared->payload);
}

// Bytes of pack()'s result on the CPU. `biases` is a bit set: 1 gate, 2 up, 4 down; `dtype` is the C++ enum's.
std::int64_t packed_size(std::int64_t d_in, std::int64_t d_hidden, std::int64_t d_out, std::int64_t activation,
                         std::int64_t gate_order, std::int64_t biases, std::int64_t dtype) {
  if (dtype < 0 || dtype >= kDTypeCount) fail("dtype", "must be 0 (float32), 1 (bfloat16) or 2 (float16)");
  if (activation < 0 || activation >= kActivationCount) fail("activation", "out of range");
  if (gate_order < 0 || gate_order > 4) fail("gate_order", "must be in [0, 4]");
  MlpSpec spec;
  spec.d_in = d_in;
  spec.d_hidden = d_hidden;
  spec.d_out = d_out;
  spec.activation = static_cast<Activation>(activation);
  spec.gated = gate_order != 0;
  spec.gate_order = gate_order >= 2 ? static_cast<GateOrder>(gate_order - 2) : GateOrder::first;
  spec.bias_gate = (biases & 1) != 0;
  spec.bias_up = (biases & 2) != 0;
  spec.bias_down = (biases & 4) != 0;
  spec.dtype = static_cast<DType>(dtype);
  check(validate(spec));
  return static_cast<std::int64_t>(sizeof(PackedHeader) + packed_bytes(spec));
}

Tensor mlp_cuda(const Tensor& x, const OptionalTensor& w_gate, const Tensor& w_up, const Tensor& w_down,
                const OptionalTensor& b_gate, const OptionalTensor& b_up, const OptionalTensor& b_down,
                std::int64_t activation, std::int64_t gate_order, double alpha, double limit) {
  return compute_on_gpu(x, {w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit});
}

// GPUs read the weights as they are: a packed tensor there is empty.
Tensor mlp_packed_cuda(const Tensor& x, const Tensor&, const OptionalTensor& w_gate, const Tensor& w_up,
                       const Tensor& w_down, const OptionalTensor& b_gate, const OptionalTensor& b_up,
                       const OptionalTensor& b_down, std::int64_t activation, std::int64_t gate_order, double alpha,
                       double limit) {
  return compute_on_gpu(x, {w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit});
}

#define FUSEDMLP_OPERANDS                                                                                      \
  "Tensor? w_gate, Tensor w_up, Tensor w_down, Tensor? b_gate, Tensor? b_up, Tensor? b_down, int activation, " \
  "int gate_order, float alpha, float limit"

STABLE_TORCH_LIBRARY(fusedmlp, m) {
  m.def("mlp(Tensor x, " FUSEDMLP_OPERANDS ") -> Tensor");
  m.def("mlp_unfused(Tensor x, " FUSEDMLP_OPERANDS ") -> Tensor");
  m.def("mlp_packed(Tensor x, Tensor packed, " FUSEDMLP_OPERANDS ") -> Tensor");
  m.def("pack(" FUSEDMLP_OPERANDS ") -> Tensor");
  // The module's own, eager only: no rules for autograd, autocast, vmap or shapes without data.
  m.def("_prepare(Tensor packed, " FUSEDMLP_OPERANDS ") -> int");
  m.def("_mlp_prepared(Tensor x, int handle) -> Tensor");
  m.def("_release(int handle) -> ()");
  m.def(
      "packed_size(int d_in, int d_hidden, int d_out, int activation, int gate_order, int biases, int dtype) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(fusedmlp, CPU, m) {
  m.impl("mlp", TORCH_BOX(&mlp));
  m.impl("mlp_packed", TORCH_BOX(&mlp_packed));
  m.impl("pack", TORCH_BOX(&pack));
  m.impl("_prepare", TORCH_BOX(&prepare));
  m.impl("_mlp_prepared", TORCH_BOX(&mlp_prepared));
}

STABLE_TORCH_LIBRARY_IMPL(fusedmlp, CUDA, m) {
  m.impl("mlp", TORCH_BOX(&mlp_cuda));
  m.impl("mlp_packed", TORCH_BOX(&mlp_packed_cuda));
}

STABLE_TORCH_LIBRARY_IMPL(fusedmlp, CompositeExplicitAutograd, m) {
  m.impl("packed_size", TORCH_BOX(&packed_size));
  m.impl("_release", TORCH_BOX(&release));
}

}  // namespace
}  // namespace fusedmlp::pytorch
