#include "cuda_path.h"

#include <dlfcn.h>
#include <torch/csrc/stable/ops.h>

#include <array>
#include <cstdlib>
#include <optional>

#include "call.h"
#include "fusedmlp/packed.h"

namespace fusedmlp::pytorch {
namespace {

using CurrentStream = AOTITorchError (*)(std::int32_t device, void** stream);

// Absent from PyTorch builds without CUDA, so it is looked up and not linked; in the library that Python has loaded,
// for Python loads it locally.
CurrentStream current_stream() {
  static const CurrentStream found = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return CurrentStream{nullptr};
    return reinterpret_cast<CurrentStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  }();
  return found;
}

Tensor unfused(const Tensor& x, const Operands& o) {
  using torch::stable::detail::from;
  std::array<StableIValue, 11> stack{
      from(x),        from(o.w_gate),     from(o.w_up),       from(o.w_down), from(o.b_gate), from(o.b_up),
      from(o.b_down), from(o.activation), from(o.gate_order), from(o.alpha),  from(o.limit)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("fusedmlp::mlp_unfused", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

bool forced() {
  const char* kernel = std::getenv("FUSEDMLP_KERNEL");
  return kernel != nullptr && *kernel != '\0';
}

}  // namespace

Tensor compute_on_gpu(const Tensor& x, const Operands& operands) {
  if (current_stream() == nullptr || !readable(operands)) return unfused(x, operands);
  const Problem problem = read_operands(operands);
  const TensorInfo info = inspect(x);
  check_input(info, problem);
  if (problem.float64) return unfused(x, operands);

  RowsCall call(x, info, problem);
  TORCH_ERROR_CODE_CHECK(current_stream()(problem.device.index, &call.args.stream));
  const Result<Selection> selection = select(problem.spec, problem.weights, nullptr, call.args, problem.device);
  if (!selection) {
    const StatusCode code = selection.status().code();
    if (!forced() && (code == StatusCode::unavailable || code == StatusCode::unsupported))
      return unfused(x, operands);
    check(selection.status());
  }
  if (!selection->pays) return unfused(x, operands);
  // Given back when this returns: the allocator hands it to later work on the same stream only.
  std::optional<Tensor> workspace;
  if (selection->workspace_bytes > 0) {
    const auto bytes = static_cast<std::int64_t>(selection->workspace_bytes);
    workspace = empty(&bytes, 1, aoti_torch_dtype_uint8(), problem.device);
    call.args.workspace = workspace->data_ptr();
    call.args.workspace_bytes = selection->workspace_bytes;
  }
  check(run(problem.spec, problem.weights, nullptr, call.args, problem.device));
  return call.y;
}

}  // namespace fusedmlp::pytorch
