// ATen: PyTorch's element-wise kernels, reductions, copies and norms. The functor in the template says which.
//
// Sources: aten/src/ATen/native/cuda/ (ActivationGeluKernel.cu, ActivationSiluKernel.cu, PowKernel.cu, Copy.cu,
// TensorCompare.cu, BinaryMulKernel.cu), and the names in profiler traces beside the ops that launched them.
#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

struct Functor {
  std::string_view word;   // in the name
  const char* op;          // for KernelName::ops
  const char* activation;  // empty: none
  Work work;
  const char* what;
  const char* note = "";
};

constexpr Work kElementwise = Work::elementwise;

// The first that is in the name counts, so longer words stand before their parts.
constexpr Functor kFunctors[] = {
    {"GeluBackwardCUDAKernelImpl", "gelu_backward", "gelu", kElementwise, "gradient of GELU"},
    {"GeluTanhFunctor", "gelu", "gelu_tanh", kElementwise, "GELU, tanh form"},
    {"GeluErfFunctor", "gelu", "gelu", kElementwise, "GELU, erf form"},
    {"GeluCUDAKernelImpl", "gelu", "gelu", kElementwise, "GELU"},  // the form: gelu_form()
    {"silu_backward_kernel", "silu_backward", "silu", kElementwise, "gradient of SiLU"},
    {"silu_kernel", "silu", "silu", kElementwise, "SiLU"},
    {"launch_log_sigmoid", "log_sigmoid", "", kElementwise, "log sigmoid"},
    {"log_sigmoid_", "log_sigmoid", "", kElementwise, "log sigmoid"},
    {"hardsigmoid_", "hardsigmoid", "hardsigmoid", kElementwise, "hard sigmoid"},
    {"sigmoid_backward", "sigmoid_backward", "sigmoid", kElementwise, "gradient of the sigmoid"},
    {"sigmoid_kernel_cuda", "sigmoid", "sigmoid", kElementwise, "sigmoid"},
    {"tanh_backward", "tanh_backward", "tanh", kElementwise, "gradient of tanh"},
    {"tanh_kernel_cuda", "tanh", "tanh", kElementwise, "tanh"},
    {"leaky_relu_backward", "leaky_relu_backward", "leaky_relu", kElementwise, "gradient of leaky ReLU"},
    {"leaky_relu_kernel", "leaky_relu", "leaky_relu", kElementwise, "leaky ReLU"},
    {"prelu_kernel", "prelu", "prelu", kElementwise, "PReLU"},
    {"hardswish_kernel", "hardswish", "hardswish", kElementwise, "hard swish"},
    {"softplus_kernel", "softplus", "softplus", kElementwise, "softplus"},
    {"mish_kernel", "mish", "mish", kElementwise, "Mish"},
    {"elu_kernel", "elu", "elu", kElementwise, "ELU"},
    {"glu_backward", "glu_backward", "sigmoid", kElementwise, "gradient of GLU"},
    {"glu_kernel", "glu", "sigmoid", kElementwise, "GLU: one half times the sigmoid of the other"},
    {"threshold_kernel_impl", "threshold", "", kElementwise, "threshold",
     "PyTorch uses it for ReLU (up to 1.10) and for its gradient; the limit is not in the name"},
    {"launch_clamp_scalar", "clamp", "", kElementwise, "clamp by a number",
     "relu is clamp at 0, but the limit is not in the name"},
    {"clamp_min_scalar_kernel_impl", "clamp", "", kElementwise, "clamp by a number",
     "relu is clamp at 0, but the limit is not in the name"},
    {"clamp_scalar_kernel_impl", "clamp", "", kElementwise, "clamp by numbers"},
    {"pow_tensor_scalar_kernel_impl", "pow", "", kElementwise, "power"},  // which: power_of()
    {"pow_scalar_tensor", "pow", "", kElementwise, "power"},
    {"rsqrt_kernel_cuda", "rsqrt", "", kElementwise, "reciprocal square root"},
    {"sqrt_kernel_cuda", "sqrt", "", kElementwise, "square root"},
    {"neg_kernel_cuda", "neg", "", kElementwise, "negation"},
    {"exp_kernel_cuda", "exp", "", kElementwise, "exponential"},
    {"erf_kernel_cuda", "erf", "", kElementwise, "error function"},
    {"sin_kernel_cuda", "sin", "", kElementwise, "sine"},
    {"cos_kernel_cuda", "cos", "", kElementwise, "cosine"},
    {"where_kernel_impl", "where", "", kElementwise, "choice by a mask"},
    {"masked_fill_kernel", "masked_fill", "", kElementwise, "masked fill"},
    {"addcmul_cuda", "addcmul", "", kElementwise, "sum with a product"},
    {"addcdiv_cuda", "addcdiv", "", kElementwise, "sum with a quotient"},
    {"bfloat16_copy_kernel_cuda", "cast", "", Work::copy, "cast to bf16"},
    {"float16_copy_kernel_cuda", "cast", "", Work::copy, "cast to fp16"},
    {"float8_copy_kernel_cuda", "cast", "", Work::copy, "cast to or from fp8"},
    {"direct_copy_kernel_cuda", "copy", "", Work::copy, "copy"},  // or a cast: LoadWithCast
    {"BitwiseAndFunctor", "bitwise_and", "", kElementwise, "bitwise and"},
    {"CompareEqFunctor", "eq", "", kElementwise, "comparison"},
    {"compare_scalar_kernel", "compare", "", kElementwise, "comparison"},
    {"CompareFunctor", "compare", "", kElementwise, "comparison"},
    {"FillFunctor", "fill", "", kElementwise, "fill with a number"},
    {"DivFunctor", "div", "", kElementwise, "quotient"},
    {"MulFunctor", "mul", "", kElementwise, "product"},  // of tensors or by a number: is_by_number()
    {"CUDAFunctorOnSelf_add", "add_scalar", "", kElementwise, "sum with a number"},
    {"CUDAFunctorOnOther_add", "add_scalar", "", kElementwise, "sum with a number"},
    {"CUDAFunctor_add", "add", "", kElementwise, "sum of two tensors"},
    {"AddFunctor", "add", "", kElementwise, "sum of two tensors"},
    {"fused_dropout_kernel", "dropout", "", kElementwise, "dropout"},
};

struct Whole {
  std::string_view word;
  const char* op;
  Work work;
  const char* what;
};

// Kernels that are no loop over a functor.
constexpr Whole kWhole[] = {
    {"multi_tensor_apply_kernel", "foreach", Work::elementwise, "one pass over many tensors (optimizer step)"},
    {"CatArrayBatchedCopy", "cat", Work::copy, "concatenation"},
    {"layer_norm_grad_input", "native_layer_norm_backward", Work::reduce, "gradient of layer norm"},
    {"GammaBetaBackward", "native_layer_norm_backward", Work::reduce, "gradient of layer norm's weights"},
    {"layer_norm_kernel", "native_layer_norm", Work::reduce, "layer norm"},
    {"RowwiseMomentsCUDAKernel", "native_layer_norm", Work::reduce, "moments of a norm"},
    {"SoftMaxBackward", "_softmax_backward_data", Work::reduce, "gradient of softmax"},
    {"SoftMaxForward", "_softmax", Work::reduce, "softmax"},
    {"softmax_warp_forward", "_softmax", Work::reduce, "softmax"},
    {"softmax_warp_backward", "_softmax_backward_data", Work::reduce, "gradient of softmax"},
    {"nll_loss_", "nll_loss", Work::reduce, "loss"},
    {"vectorized_gather_kernel", "index", Work::copy, "gather of rows"},
    {"indexSelect", "index_select", Work::copy, "gather of rows"},
    {"index_elementwise_kernel", "index", Work::copy, "indexing"},
    {"scatter_gather_elementwise_kernel", "scatter", Work::copy, "scatter or gather"},
    {"embedding_", "embedding", Work::copy, "embedding"},
    {"upsample_", "upsample", Work::elementwise, "resampling"},
    {"distribution_elementwise", "random", Work::elementwise, "random numbers"},
    {"elementwise_kernel_with_index", "arange", Work::elementwise, "numbers by index"},
    {"triu_tril_kernel", "tril", Work::copy, "triangle of a matrix"},
    {"reduce_kernel", "reduce", Work::reduce, "reduction"},
};

// The lambda's number after `function(...)::`, in CUPTI's "{lambda()#2}" and the older "[lambda() (instance 2)]".
std::optional<int> lambda_of(std::string_view text, std::string_view function, std::string_view lambda) {
  std::size_t at = text.find(function);
  if (at == std::string_view::npos) return {};
  at = text.find(lambda, at);
  if (at == std::string_view::npos) return {};
  // Past the lambda's own parameters.
  at = text.find(')', at);
  if (at == std::string_view::npos) return {};
  std::string_view rest = text.substr(at + 1);
  if (!take(rest, "#") && !take(rest, " (instance ")) return {};
  return number(rest.substr(0, rest.find_first_not_of("0123456789")));
}

// GeluCUDAKernelImpl dispatches on GeluType: its first lambda is the tanh form, its second the erf form. Before
// PyTorch 1.11 there was no GeluType and one lambda, the erf form.
void gelu_form(std::string_view text, std::string_view function, Draft& draft) {
  if (!contains(text, "GeluType")) {
    draft.notes.emplace_back("erf form");
    return;
  }
  const std::optional<int> lambda = lambda_of(text, function, "lambda()");
  if (lambda == 1) draft.name.activation = "gelu_tanh";
  draft.notes.emplace_back(lambda == 1 ? "tanh form" : lambda == 2 ? "erf form" : "form not in the name");
}

// pow_tensor_scalar_kernel_impl: lambda 1 squares, 2 cubes, 3 is the inverse square, 4 any other exponent.
void power_of(std::string_view text, Draft& draft) {
  const std::optional<int> lambda = lambda_of(text, "pow_tensor_scalar_kernel_impl", "::{lambda(");
  if (lambda == 1) {
    draft.name.ops = {"pow2"};
    draft.what = "PyTorch: square";
  } else if (lambda == 2) {
    draft.name.ops = {"pow3"};
    draft.what = "PyTorch: cube";
  }
}

// AUnaryFunctor and BUnaryFunctor bind one operand of a binary functor to a number.
bool is_by_number(std::string_view text) {
  return contains(text, "AUnaryFunctor") || contains(text, "BUnaryFunctor");
}

void refine(std::string_view text, const Functor& functor, Draft& draft) {
  KernelName& name = draft.name;
  const std::string_view op = functor.op;
  if (functor.word == "GeluCUDAKernelImpl" || functor.word == "GeluBackwardCUDAKernelImpl") {
    gelu_form(text, functor.word, draft);
  }
  if (op == "pow") power_of(text, draft);
  if ((op == "mul" || op == "div" || op == "add") && is_by_number(text)) {
    name.ops = {op == "mul" ? "mul_scalar" : op == "div" ? "div_scalar" : "add_scalar"};
    draft.what += " by a number";
  } else if (op == "mul") {
    name.multiplies = true;
    draft.what += " of two tensors";
  }
  if (op == "glu") name.multiplies = true;
  if (op == "copy" && contains(text, "LoadWithCast")) {
    name.ops = {"cast"};
    draft.what = "PyTorch: cast between types";
    draft.notes.emplace_back("only the type in between is in the name");
  }
  if (op.ends_with("_backward")) name.backward = true;
}

// Which loop runs the functor.
bool is_loop(std::string_view text) { return contains(text, "elementwise_kernel") || contains(text, "_elementwise"); }

}  // namespace

bool aten(std::string_view text, Draft& draft) {
  const bool native = contains(text, "at::native::") || text.starts_with("at::") || contains(text, "softmax_warp_");
  if (!native) return false;
  KernelName& name = draft.name;
  name.family = Family::aten;
  const std::size_t arguments = text.find('<');
  if (is_loop(text) && !contains(text, "index_elementwise_kernel") && !contains(text, "scatter_gather_elementwise")) {
    for (const Functor& functor : kFunctors) {
      if (!contains(text, functor.word)) continue;
      name.work = functor.work;
      name.ops = {functor.op};
      if (*functor.activation != '\0') name.activation = functor.activation;
      draft.what = core::format("PyTorch: {}", functor.what);
      if (*functor.note != '\0') draft.notes.emplace_back(functor.note);
      name.dtype = first_dtype(text, arguments == std::string_view::npos ? text.size() : arguments);
      if (functor.work == Work::copy && functor.word == "bfloat16_copy_kernel_cuda") name.dtype = "bf16";
      if (functor.work == Work::copy && functor.word == "float16_copy_kernel_cuda") name.dtype = "fp16";
      refine(text, functor, draft);
      return true;
    }
  }
  for (const Whole& whole : kWhole) {
    if (!contains(text, whole.word)) continue;
    name.work = whole.work;
    name.ops = {whole.op};
    draft.what = core::format("PyTorch: {}", whole.what);
    if (whole.work == Work::reduce)
      name.dtype = first_dtype(text, arguments == std::string_view::npos ? 0 : arguments);
    name.backward = contains(whole.what, "gradient");
    if (std::string_view(whole.op) == "reduce") {
      if (contains(text, "sum_functor")) name.ops = {"sum"};
      if (contains(text, "MeanOps")) name.ops = {"mean"};
    }
    return true;
  }
  name.work = is_loop(text) ? Work::elementwise : Work::unknown;
  draft.what = is_loop(text) ? "PyTorch: element-wise pass" : "PyTorch kernel";
  draft.notes.emplace_back("its operation is not known here");
  return true;
}

}  // namespace fusedmlp::trace::names
