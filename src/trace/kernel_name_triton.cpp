// Triton: TorchInductor's fused kernels and templates, Liger, and the kernels of serving engines.
//
// Sources: torch/_inductor (codegen/triton.py: kind poi, red, per, tem; names of the fused ATen ops, sorted),
// linkedin/Liger-Kernel src/liger_kernel/ops/, vLLM and SGLang fused_moe, triton_kernels matmul_ogs.
#include <algorithm>
#include <array>

#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

// ATen ops with an underscore in their names, which a fused name joins by underscores. Longer ones first.
constexpr std::string_view kLongOps[] = {
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention",
    "native_layer_norm_backward",
    "native_dropout_backward",
    "_softmax_backward_data",
    "hardsigmoid_backward",
    "hardswish_backward",
    "leaky_relu_backward",
    "threshold_backward",
    "native_layer_norm",
    "_to_copy_1",
    "sigmoid_backward",
    "embedding_dense",
    "flex_attention",
    "nll_loss_forward",
    "nll_loss_backward",
    "constant_pad_nd",
    "new_empty_strided",
    "slice_backward",
    "select_backward",
    "gelu_backward",
    "silu_backward",
    "tanh_backward",
    "native_dropout",
    "_unsafe_index",
    "_unsafe_view",
    "detach_clone",
    "index_select",
    "_log_softmax",
    "masked_fill",
    "index_put",
    "hardsigmoid",
    "leaky_relu",
    "scalar_tensor",
    "logical_and",
    "logical_not",
    "bitwise_and",
    "bitwise_not",
    "clamp_min",
    "clamp_max",
    "_softmax",
    "_to_copy",
    "zeros_like",
    "ones_like",
    "full_like",
    "lift_fresh",
    "fill_",
    "copy_",
    "add_",
    "mul_",
    "relu_",
    "t_",
    "view_as",
};

// The ops of "_unsafe_view_gelu_mul".
std::vector<std::string> fused_ops(std::string_view text) {
  std::vector<std::string> ops;
  while (!text.empty()) {
    const auto* const found = std::find_if(std::begin(kLongOps), std::end(kLongOps), [text](std::string_view op) {
      return text.starts_with(op) && (text.size() == op.size() || text[op.size()] == '_');
    });
    const std::size_t length = found != std::end(kLongOps) ? found->size() : std::min(text.find('_'), text.size());
    if (length > 0) ops.emplace_back(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return ops;
}

struct FusedActivation {
  std::string_view op;
  const char* activation;
  bool backward;
};

constexpr FusedActivation kActivations[] = {
    {"gelu", "gelu", false},           {"silu", "silu", false},
    {"relu", "relu", false},           {"relu_", "relu", false},
    {"sigmoid", "sigmoid", false},     {"tanh", "tanh", false},
    {"hardswish", "hardswish", false}, {"leaky_relu", "leaky_relu", false},
    {"glu", "sigmoid", false},         {"gelu_backward", "gelu", true},
    {"silu_backward", "silu", true},   {"sigmoid_backward", "sigmoid", true},
    {"tanh_backward", "tanh", true},
};

struct Kind {
  std::string_view word;
  Work work;
  const char* what;
};

constexpr Kind kKinds[] = {
    {"poi_fused_", Work::elementwise, "torch.compile: one element-wise pass"},
    {"red_fused_", Work::reduce, "torch.compile: one pass with a reduction"},
    {"per_fused_", Work::reduce, "torch.compile: one pass with a reduction inside a block"},
    {"for_fused_", Work::elementwise, "torch.compile: one pass over many tensors"},
    {"tem_fused_", Work::unknown, "torch.compile: a Triton template with fused passes"},
};

bool is_product(std::string_view op) {
  constexpr std::array<std::string_view, 6> kProducts = {"mm",      "addmm",      "bmm",
                                                         "baddbmm", "_scaled_mm", "_grouped_mm"};
  return std::find(kProducts.begin(), kProducts.end(), op) != kProducts.end();
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

// Removes "_12" from the end.
std::string_view without_index(std::string_view text) {
  const std::size_t at = text.rfind('_');
  return at != std::string_view::npos && number(text.substr(at + 1)) ? text.substr(0, at) : text;
}

void read_ops(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  name.ops = fused_ops(text);
  int activations = 0;
  for (const std::string& op : name.ops) {
    for (const FusedActivation& known : kActivations) {
      if (op != known.op) continue;
      ++activations;
      name.activation = known.activation;
      name.backward = name.backward || known.backward;
    }
    if (is_product(op)) name.work = Work::gemm;
    if (op == "flex_attention") name.work = Work::attention;
    if (op == "_to_copy") draft.notes.emplace_back("casts or copies");
  }
  if (activations > 1) {  // mul-sigmoid-mul and tanh chains have one; two are told apart by ops alone
    name.activation.reset();
    draft.notes.emplace_back("more than one activation");
  }
  if (std::find(name.ops.begin(), name.ops.end(), "mul") != name.ops.end()) {
    draft.notes.emplace_back("mul of two tensors or by a number: the name does not say which");
  }
}

}  // namespace

bool inductor(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  if (!take(text, "triton_")) return false;
  std::string_view rest = text;
  for (const char* product : {"mm", "bmm", "addmm"}) {
    rest = text;
    if (take(rest, product) && (rest.empty() || (take(rest, "_") && number(rest)))) {
      name.family = Family::inductor_mm;
      name.work = Work::gemm;
      name.ops = {product};
      draft.what = "torch.compile: matrix product from a Triton template";
      draft.notes.emplace_back("dtype and tile are in the compiled code, not in the name");
      return true;
    }
  }
  for (const Kind& kind : kKinds) {
    rest = text;
    if (!take(rest, kind.word)) continue;
    name.work = kind.work;
    draft.what = kind.what;
    read_ops(without_index(rest), draft);
    const bool is_template = kind.word == "tem_fused_";
    if (!is_template && name.work == Work::gemm) name.work = kind.work;  // "mm" as a reduction, decomposed
    name.family = is_template && name.work == Work::gemm ? Family::inductor_mm : Family::inductor;
    if (!name.ops.empty()) draft.what += core::format(" ({})", join(name.ops));
    return true;
  }
  // Names without op list (descriptive names off): triton_poi_0, and the old triton__0d1d2d.
  for (const char* kind : {"poi_", "red_", "per_", "_"}) {
    rest = text;
    if (!take(rest, kind) || rest.empty() || rest.front() < '0' || rest.front() > '9') continue;
    name.family = Family::inductor;
    name.work = *kind == 'p' && kind[1] == 'o' ? Work::elementwise : *kind == '_' ? Work::unknown : Work::reduce;
    draft.what = "torch.compile: a fused pass";
    draft.notes.emplace_back("its operations are not in the name");
    return true;
  }
  return false;
}

namespace {

struct HandKernel {
  std::string_view word;  // at the start of the name
  Family family;
  Work work;
  const char* activation;
  bool multiplies;
  bool backward;
  const char* what;
};

constexpr HandKernel kByHand[] = {
    {"_geglu_tanh_forward_kernel", Family::liger, Work::elementwise, "gelu_tanh", true, false,
     "Liger: tanh GELU of gate times up"},
    {"_geglu_tanh_backward_kernel", Family::liger, Work::elementwise, "gelu_tanh", true, true,
     "Liger: gradient of tanh GELU of gate times up"},
    {"_swiglu_forward_kernel", Family::liger, Work::elementwise, "silu", true, false, "Liger: SiLU of gate times up"},
    {"_swiglu_backward_kernel", Family::liger, Work::elementwise, "silu", true, true,
     "Liger: gradient of SiLU of gate times up"},
    {"_rms_norm_forward_kernel", Family::liger, Work::reduce, "", false, false, "Liger: RMS norm"},
    {"_rms_norm_backward_kernel", Family::liger, Work::reduce, "", false, true, "Liger: gradient of RMS norm"},
    {"_layer_norm_forward_kernel", Family::liger, Work::reduce, "", false, false, "Liger: layer norm"},
    {"_layer_norm_backward_kernel", Family::liger, Work::reduce, "", false, true, "Liger: gradient of layer norm"},
    {"_triton_rope", Family::liger, Work::elementwise, "", false, false, "Liger: rotary embedding"},
    {"liger_cross_entropy_kernel", Family::liger, Work::reduce, "", false, false, "Liger: cross entropy"},
    {"fused_moe_kernel", Family::serving, Work::moe, "", false, false,
     "vLLM or SGLang: grouped product of the experts (Triton); the activation is another kernel"},
    {"_fused_moe_kernel", Family::serving, Work::moe, "", false, false, "grouped product of the experts (Triton)"},
    {"_silu_and_mul_kernel", Family::serving, Work::elementwise, "silu", true, false,
     "SiLU of gate times up (Triton)"},
    {"silu_and_mul_kernel", Family::serving, Work::elementwise, "silu", true, false, "SiLU of gate times up"},
    {"_swiglu_fwd_kernel", Family::serving, Work::elementwise, "silu", true, false, "SiLU of gate times up (Triton)"},
    {"swiglu_kernel", Family::serving, Work::elementwise, "silu", true, false, "SiLU of gate times up"},
    {"_w8a8_block_fp8_matmul", Family::serving, Work::gemm, "", false, false,
     "SGLang: fp8 product with block scales"},
    {"_w8a8_block_fp8_linear", Family::serving, Work::gemm, "", false, false, "vLLM: fp8 product with block scales"},
};

// "_p_matmul_ogs_NNT_bf16xbf16xmxfp4_32x256x256x1_swiglu": layouts, types, tile and split.
bool matmul_ogs(std::string_view text, Draft& draft) {
  std::string_view rest = text;
  if (!take(rest, "_p_matmul_ogs") && !take(rest, "_matmul_ogs")) return false;
  KernelName& name = draft.name;
  name.family = Family::serving;
  name.work = Work::moe;
  name.grouped = true;
  draft.what = "triton_kernels: product over rows gathered by expert";
  int tile[4];
  for (const std::string_view token : split(rest, '_')) {
    if (!name.layout && token.size() == 3 && set_layout(name, token)) continue;
    if (dims(token, 4, tile)) {
      set_tile(name, tile[0], tile[1], tile[2]);
      name.split_k = tile[3] > 1;
    } else if (contains(token, "x") && !name.dtype) {
      // Result x rows x weights; the operand is the second.
      const std::vector<std::string_view> types = split(token, 'x');
      if (types.size() > 1) name.dtype = dtype_of(types[1]);
      if (contains(token, "mxfp4")) draft.notes.emplace_back("weights in mxfp4");
    } else if (token == "swiglu") {
      name.activation = "swiglu_oai";  // triton_kernels' swiglu is GPT-OSS's clamped form
      name.multiplies = true;
    }
  }
  return true;
}

}  // namespace

bool triton_by_hand(std::string_view text, Draft& draft) {
  if (matmul_ogs(text, draft)) return true;
  for (const HandKernel& kernel : kByHand) {
    if (!text.starts_with(kernel.word)) continue;
    // Whole words, with a suffix after an underscore at most.
    if (text.size() > kernel.word.size() && text[kernel.word.size()] != '_' && text[kernel.word.size()] != '(')
      continue;
    KernelName& name = draft.name;
    name.family = kernel.family;
    name.work = kernel.work;
    name.multiplies = kernel.multiplies;
    name.backward = kernel.backward;
    name.grouped = kernel.work == Work::moe;
    if (*kernel.activation != '\0') {
      name.activation = kernel.activation;
      name.ops = {kernel.activation, "mul"};
    }
    draft.what = kernel.what;
    return true;
  }
  return false;
}

}  // namespace fusedmlp::trace::names
