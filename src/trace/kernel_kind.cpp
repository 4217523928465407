#include "trace/kernel_kind.h"

#include <optional>

namespace fusedmlp::trace {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Functors of aten/src/ATen/native/cuda (ActivationGeluKernel.cu, BinaryMulKernel.cu, PowKernel.cu, Copy.cu, ...).
// A scalar operand is bound into a unary functor. clamp is what at::relu launches, and at::hardtanh too: no proof.
OpKind aten_kind(std::string_view name) {
  struct Functor {
    std::string_view text;
    OpClass op_class;
    Steps steps;
  };
  static constexpr Functor kFunctors[] = {
      {"Backward", OpClass::boundary, 0},
      {"backward", OpClass::boundary, 0},
      {"GeluCUDAKernelImpl", OpClass::pointwise, bit(Step::gelu)},
      {"silu_kernel", OpClass::pointwise, bit(Step::silu)},
      {"sigmoid_kernel", OpClass::pointwise, bit(Step::sigmoid)},
      {"tanh_kernel", OpClass::pointwise, bit(Step::tanh)},
      {"erf_kernel", OpClass::pointwise, bit(Step::erf)},
      {"glu_kernel", OpClass::pointwise, bit(Step::glu)},
      {"pow_tensor_scalar", OpClass::pointwise, bit(Step::power)},
      {"clamp", OpClass::pointwise, bit(Step::clamp)},
      {"CUDAFunctorOnSelf_add", OpClass::pointwise, bit(Step::shift)},
      {"CUDAFunctor_add", OpClass::pointwise, bit(Step::add)},
      {"direct_copy_kernel", OpClass::copy, 0},
      {"bfloat16_copy_kernel", OpClass::copy, 0},
      {"float16_copy_kernel", OpClass::copy, 0},
      {"fused_dropout_kernel", OpClass::copy, 0},
  };
  const auto make = [](OpClass op_class, Steps steps) { return OpKind{.op_class = op_class, .steps = steps}; };
  for (const Functor& functor : kFunctors) {
    if (contains(name, functor.text)) return make(functor.op_class, functor.steps);
  }
  if (contains(name, "MulFunctor")) {
    const bool scalar = contains(name, "AUnaryFunctor") || contains(name, "BUnaryFunctor");
    return make(OpClass::pointwise, bit(scalar ? Step::scale : Step::multiply));
  }
  return make(OpClass::boundary, 0);
}

std::optional<Steps> steps_of(std::string_view activation) {
  if (activation == "gelu" || activation == "gelu_tanh") return bit(Step::gelu);
  if (activation == "silu") return bit(Step::silu);
  if (activation == "relu") return bit(Step::relu);
  if (activation == "relu2") return bit(Step::relu) | bit(Step::square);
  if (activation == "sigmoid") return bit(Step::sigmoid);
  if (activation == "quick_gelu") return bit(Step::sigmoid) | bit(Step::scale) | bit(Step::multiply);
  return std::nullopt;
}

}  // namespace

KernelKind kernel_kind(std::string_view name) {
  KernelKind result;
  result.decoded = decode(name);
  const KernelName& decoded = result.decoded;
  OpKind& kind = result.kind;
  kind.op_class = OpClass::boundary;
  const std::optional<Steps> activation = decoded.activation ? steps_of(*decoded.activation) : std::nullopt;
  switch (decoded.work) {
    case Work::gemm:
    case Work::gemv:
    case Work::moe:
      kind.op_class = OpClass::gemm;
      if (activation) kind.steps = *activation | (decoded.multiplies ? bit(Step::multiply) : 0);
      kind.half = decoded.multiplies;
      kind.fused = activation.has_value();
      result.experts = decoded.work == Work::moe;
      return result;
    case Work::splitk_reduce:
      kind.op_class = OpClass::copy;
      result.reduce = true;
      return result;
    case Work::mlp: kind.op_class = OpClass::whole; return result;
    case Work::copy: kind.op_class = OpClass::copy; return result;
    case Work::attention:
    case Work::reduce: return result;
    case Work::elementwise:
    case Work::unknown: break;
  }
  if (is_generated(name)) {
    kind = generated_kind(name);
  } else if (decoded.family == Family::serving && activation) {
    kind = OpKind{.op_class = OpClass::pointwise, .steps = *activation, .fused = true, .half = decoded.multiplies};
    if (decoded.multiplies) kind.steps |= bit(Step::multiply);
  } else {
    kind = aten_kind(name);
  }
  return result;
}

}  // namespace fusedmlp::trace
