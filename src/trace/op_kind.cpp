#include "trace/op_kind.h"

#include <algorithm>
#include <iterator>

#include "core/format.h"

namespace fusedmlp::trace {
namespace {

struct Named {
  std::string_view name;
  OpKind kind;
};

constexpr OpKind plain(OpClass op_class) { return OpKind{.op_class = op_class}; }
constexpr OpKind step(Step s) { return OpKind{.op_class = OpClass::pointwise, .steps = bit(s)}; }
constexpr OpKind product(int a, int b, int c = -1, bool transposed = false, Steps epilogue = 0) {
  return OpKind{.op_class = OpClass::gemm,
                .steps = epilogue,
                .a = static_cast<std::int8_t>(a),
                .b = static_cast<std::int8_t>(b),
                .c = static_cast<std::int8_t>(c),
                .transposed = transposed};
}
constexpr OpKind act_and_mul(Step s) {
  return OpKind{.op_class = OpClass::pointwise, .steps = bit(s) | bit(Step::multiply), .fused = true, .half = true};
}

// Names without namespace and without the trailing underscore of in-place forms. linear and matmul are containers
// where they call another product and products where they do not; nodes.cpp decides.
constexpr Named kOps[] = {
    {"_addmm_activation", product(1, 2, 0)},
    {"_grouped_mm", product(0, 1)},
    {"_int_mm", product(0, 1)},
    {"_linear_pointwise", product(0, 1, 2, true)},
    {"_mkl_linear", product(0, 2, 3, true)},
    {"_scaled_grouped_mm", product(0, 1)},
    {"_scaled_mm", product(0, 1)},
    {"_softmax", plain(OpClass::boundary)},
    {"_transformer_encoder_layer_fwd", plain(OpClass::container)},
    {"_to_copy", plain(OpClass::container)},
    {"addmm", product(1, 2, 0)},
    {"add", step(Step::add)},
    {"baddbmm", product(1, 2, 0)},
    {"bmm", product(0, 1)},
    {"chunk", plain(OpClass::split)},
    {"clamp", step(Step::clamp)},
    {"clamp_max", step(Step::clamp)},
    {"clone", plain(OpClass::container)},
    {"contiguous", plain(OpClass::container)},
    {"copy", plain(OpClass::copy)},
    {"div", step(Step::scale)},
    {"dropout", plain(OpClass::copy)},
    {"einsum", plain(OpClass::container)},
    {"erf", step(Step::erf)},
    {"feature_dropout", plain(OpClass::copy)},
    {"gather", plain(OpClass::gather)},
    {"gelu", step(Step::gelu)},
    {"glu", OpKind{.op_class = OpClass::pointwise, .steps = bit(Step::glu), .half = true}},
    {"index", plain(OpClass::gather)},
    {"index_select", plain(OpClass::gather)},
    {"linear", product(0, 1, 2, true)},
    {"matmul", product(0, 1)},
    {"mkldnn_linear", product(0, 1, 2, true)},
    {"mm", product(0, 1)},
    {"mul", step(Step::multiply)},
    {"native_dropout", plain(OpClass::copy)},
    {"pow", step(Step::power)},
    {"relu", step(Step::relu)},
    {"reshape", plain(OpClass::container)},
    {"sigmoid", step(Step::sigmoid)},
    {"silu", step(Step::silu)},
    {"square", step(Step::square)},
    {"sub", step(Step::add)},
    {"tanh", step(Step::tanh)},
    {"to", plain(OpClass::container)},
    {"topk", plain(OpClass::top_k)},
};

// Ops that launch nothing: no boundary, whatever stands between.
constexpr std::string_view kViews[] = {
    "_assert_async",
    "_local_scalar_dense",
    "_reshape_alias",
    "_unsafe_view",
    "alias",
    "as_strided",
    "broadcast_tensors",
    "broadcast_to",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "expand",
    "expand_as",
    "flatten",
    "is_nonzero",
    "item",
    "lift_fresh",
    "mT",
    "movedim",
    "narrow",
    "new_empty",
    "numpy_T",
    "permute",
    "resize",
    "resolve_conj",
    "resolve_neg",
    "result_type",
    "select",
    "set",
    "squeeze",
    "swapaxes",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
    "view_as",
};
constexpr std::string_view kSplits[] = {"slice",  "split",        "split_with_sizes", "tensor_split",
                                        "unbind", "unsafe_chunk", "unsafe_split"};

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

template <std::size_t N>
bool is_one_of(std::string_view name, const std::string_view (&names)[N]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// silu_and_mul and relatives: vLLM's _C::silu_and_mul, gelu_and_mul, gelu_tanh_and_mul, mul_and_silu,
// swigluoai_and_mul (csrc/activation_kernels.cu), SGLang's sgl_kernel:: ops of the same names.
OpKind serving_kind(std::string_view name) {
  if (contains(name, "swigluoai_and_mul")) {
    OpKind kind = act_and_mul(Step::sigmoid);
    kind.steps |= bit(Step::clamp) | bit(Step::shift) | bit(Step::scale);
    return kind;
  }
  if (contains(name, "silu_and_mul") || contains(name, "mul_and_silu")) return act_and_mul(Step::silu);
  if (contains(name, "gelu_tanh_and_mul")) {
    OpKind kind = act_and_mul(Step::tanh);
    kind.steps |= bit(Step::power) | bit(Step::add);
    return kind;
  }
  if (contains(name, "gelu_and_mul")) return act_and_mul(Step::gelu);
  return {};
}

}  // namespace

OpKind op_kind(std::string_view name) {
  if (is_generated(name)) {
    // C++ code is named as Triton code is: "graph_0_cpp_fused_mul_silu_1".
    const std::size_t at = name.find("cpp_fused_");
    if (at == std::string_view::npos) return generated_kind(decode(name));
    return generated_kind(decode(core::format("triton_poi_fused_{}", name.substr(at + 10))));
  }
  if (name.rfind("autograd::", 0) == 0) return {};
  const OpKind serving = serving_kind(name);
  if (serving.op_class != OpClass::container) return serving;

  const std::size_t colons = name.find("::");
  const std::string_view space = colons == std::string_view::npos ? std::string_view() : name.substr(0, colons);
  std::string_view base = colons == std::string_view::npos ? name : name.substr(colons + 2);
  if (space == "fusedmlp" && (base == "mlp" || base == "mlp_packed")) return plain(OpClass::whole);
  // vllm/model_executor/layers/fused_moe/fused_moe.py and sglang's copy of it.
  if (base == "inplace_fused_experts" || base == "outplace_fused_experts") return plain(OpClass::whole);
  const bool aten = space == "aten" || space == "mkldnn" || space == "mkl";
  if (!aten && !space.empty()) return {};
  if (base.size() > 1 && base.back() == '_') base.remove_suffix(1);
  if (is_one_of(base, kViews)) return plain(OpClass::view);
  if (is_one_of(base, kSplits)) return plain(OpClass::split);
  const auto* found =
      std::find_if(std::begin(kOps), std::end(kOps), [&](const Named& op) { return op.name == base; });
  if (found != std::end(kOps)) return found->kind;
  // An ATen op that is not listed computes something; other ops are only what their children are.
  return plain(aten ? OpClass::boundary : OpClass::container);
}

bool is_generated(std::string_view name) {
  return name.rfind("triton_", 0) == 0 || name.rfind("cpp_fused", 0) == 0 || contains(name, "_cpp_fused_");
}

bool read_ops(const std::vector<std::string>& ops, OpKind& kind) {
  struct Word {
    std::string_view text;
    Steps steps;
  };
  // By the names of KernelName::ops. Those without steps carry the hidden on as it is. Not listed: no part of a
  // chain.
  static constexpr Word kWords[] = {
      {"_to_copy", 0},
      {"_unsafe_view", 0},
      {"add", bit(Step::add)},
      {"add_", bit(Step::add)},
      {"add_scalar", bit(Step::shift)},
      {"addmm", bit(Step::bias)},
      {"bmm", 0},
      {"cast", 0},
      {"chunk", 0},
      {"clamp", bit(Step::clamp)},
      {"clamp_max", bit(Step::clamp)},
      {"clamp_min", bit(Step::clamp)},
      {"clone", 0},
      {"convert", 0},  // convert_element_type
      {"copy", 0},
      {"div", bit(Step::scale)},
      {"div_scalar", bit(Step::scale)},
      {"dropout", 0},
      {"element", 0},
      {"erf", bit(Step::erf)},
      {"expand", 0},
      {"gelu", bit(Step::gelu)},
      {"gelu_tanh", bit(Step::tanh) | bit(Step::power) | bit(Step::add)},
      {"glu", bit(Step::glu)},
      {"linear", 0},
      {"minimum", bit(Step::clamp)},
      {"mm", 0},
      {"mul", bit(Step::multiply)},
      {"mul_", bit(Step::multiply)},
      {"mul_scalar", bit(Step::scale)},
      {"native_dropout", 0},
      {"permute", 0},
      {"pow", bit(Step::power)},
      {"pow2", bit(Step::square)},
      {"pow3", bit(Step::power)},
      {"quick_gelu", bit(Step::sigmoid) | bit(Step::scale) | bit(Step::multiply)},
      {"relu", bit(Step::relu)},
      {"relu2", bit(Step::relu) | bit(Step::square)},
      {"relu_", bit(Step::relu)},
      {"select", 0},
      {"sigmoid", bit(Step::sigmoid)},
      {"silu", bit(Step::silu)},
      {"sizes", 0},  // split_with_sizes
      {"slice", 0},
      {"split", 0},
      {"square", bit(Step::square)},
      {"squeeze", 0},
      {"sub", bit(Step::add)},
      {"t", 0},
      {"tanh", bit(Step::tanh)},
      {"transpose", 0},
      {"type", 0},
      {"unsqueeze", 0},
      {"view", 0},
      {"with", 0},
  };
  Steps steps = 0;
  for (const std::string& op : ops) {
    const auto* word = std::find_if(std::begin(kWords), std::end(kWords),
                                    [&](const Word& candidate) { return candidate.text == op; });
    if (word == std::end(kWords)) return false;
    steps |= word->steps;
  }
  kind.bias_named = (steps & bit(Step::bias)) != 0;
  kind.steps = steps & ~bit(Step::bias);
  return true;
}

OpKind generated_kind(const KernelName& decoded) {
  OpKind kind{.op_class = OpClass::boundary, .fused = true};
  const bool product = decoded.work == Work::gemm;
  // A reduction is a norm, a softmax or a loss: the hidden does not go through it.
  if (decoded.backward || (decoded.work != Work::elementwise && !product)) return kind;
  if (!read_ops(decoded.ops, kind)) return kind;
  if (product) {
    kind.op_class = OpClass::gemm;
    kind.a = 0;
    kind.b = 1;
  } else if (!decoded.ops.empty()) {
    kind.op_class = kind.steps == 0 ? OpClass::copy : OpClass::pointwise;
  }
  return kind;
}

}  // namespace fusedmlp::trace
