// Serving engines and libraries with kernels of their own: vLLM, SGLang, TensorRT-LLM, FlashInfer, QuACK, DeepGEMM.
//
// Sources: vLLM csrc/activation_kernels.cu (act_and_mul_kernel<T, &silu_kernel<T>, act_first>), FlashInfer
// include/flashinfer/activation.cuh, TensorRT-LLM cutlass_kernels (doActivationKernel, GLUAdaptor) and trtllm-gen
// (bmm_..._swiGlu_...), Dao-AILab/quack gemm_act, deepseek-ai/DeepGEMM impls/, and public profiles of them.
#include <algorithm>
#include <cctype>

#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

struct ActivationWord {
  std::string_view word;
  const char* activation;
};

// Functions that vLLM's and FlashInfer's kernels take as a template argument. gelu_new and gelu_fast are two ways
// to write the tanh form.
constexpr ActivationWord kWords[] = {
    {"gelu_tanh", "gelu_tanh"},
    {"gelu_new", "gelu_tanh"},
    {"gelu_fast", "gelu_tanh"},
    {"gelu_quick", "quick_gelu"},
    {"quick_gelu", "quick_gelu"},
    {"swigluoai", "swiglu_oai"},
    {"relu_squared", "relu2"},
    {"relu2", "relu2"},
    {"fatrelu", "fatrelu"},
    {"silu", "silu"},
    {"SiLu", "silu"},
    {"gelu", "gelu"},
    {"GELU_taylor", "gelu_tanh"},
    {"GELU", "gelu"},
    {"ReLu", "relu"},
    {"relu", "relu"},
    {"Identity", "identity"},
};

std::optional<std::string> activation_in(std::string_view text) {
  for (const ActivationWord& known : kWords) {
    if (contains(text, known.word)) return known.activation;
  }
  return {};
}

// Whose kernel it is, where the namespace says so.
const char* owner(std::string_view text) {
  if (contains(text, "vllm::")) return "vLLM";
  if (contains(text, "flashinfer::")) return "FlashInfer";
  if (contains(text, "sgl_hip::") || contains(text, "sglang::") || contains(text, "sgl_")) return "SGLang";
  if (contains(text, "tensorrt_llm::")) return "TensorRT-LLM";
  return "serving engine";
}

void set_gated(Draft& draft, const std::optional<std::string>& activation) {
  KernelName& name = draft.name;
  name.family = Family::serving;
  name.work = Work::elementwise;
  name.activation = activation;
  name.multiplies = true;
  name.ops = {activation.value_or("activation"), "mul"};
}

// act_and_mul_kernel<T, &act<T>, act_first>: act(first half) * second half, or first half * act(second half).
bool act_and_mul(std::string_view text, Draft& draft) {
  if (!contains(text, "act_and_mul_kernel")) return false;
  std::string_view arguments = template_arguments(text, "act_and_mul_kernel");
  if (arguments.empty()) arguments = template_arguments(text, "act_and_mul_kernel_with_param");
  set_gated(draft, activation_in(arguments));
  draft.name.dtype = first_dtype(arguments);
  draft.what = core::format("{}: activation of one half of packed gate and up, times the other", owner(text));
  if (!draft.name.activation) draft.notes.emplace_back("which activation is not in the name");
  return true;
}

// vllm::activation_kernel<T, &vllm::gelu_new_kernel<T>>: no second half.
bool activation_kernel(std::string_view text, Draft& draft) {
  const std::string_view arguments = template_arguments(text, "activation_kernel");
  if (arguments.empty() || !contains(text, "vllm::")) return false;
  draft.name.family = Family::serving;
  draft.name.work = Work::elementwise;
  draft.name.activation = activation_in(arguments);
  draft.name.dtype = first_dtype(arguments);
  draft.name.ops = {draft.name.activation.value_or("activation")};
  draft.what = "vLLM: activation";
  return true;
}

// doActivationKernel<Out, In, Scale, GLUAdaptor<SiLu>, ...>; IdentityAdaptor is without a gate.
bool tensorrt_llm(std::string_view text, Draft& draft) {
  for (const char* function : {"doActivationKernel", "moeActivationKernel", "doGatedActivationKernel"}) {
    if (!contains(text, function)) continue;
    const std::string_view arguments = template_arguments(text, function);
    set_gated(draft, activation_in(arguments));
    draft.name.multiplies = contains(arguments, "GLUAdaptor") || contains(text, "doGatedActivationKernel");
    if (!draft.name.multiplies) draft.name.ops.pop_back();
    draft.name.dtype = first_dtype(arguments);
    draft.what = "TensorRT-LLM: activation between the experts' products";
    if (!draft.name.activation) draft.notes.emplace_back("which activation is not in the name");
    return true;
  }
  return false;
}

// bmm_Bfloat16_E2m1E2m1_Fp32_..._t128x8x512_s5_..._swiGlu_dynB_sm100f: result, operands, sum, tile, stages.
bool trtllm_gen(std::string_view text, Draft& draft) {
  std::string_view rest = text;
  if (!take(rest, "bmm_") && !take(rest, "Bmm_") && !take(rest, "gemm_") && !take(rest, "gemmGatedAct_"))
    return false;
  KernelName& name = draft.name;
  const std::vector<std::string_view> tokens = split(rest, '_');
  if (tokens.size() < 4 || tokens[1].empty()) return false;
  const auto lower = [](std::string_view word) {
    std::string out;
    for (const char c : word) out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
  };
  const std::string operands = lower(tokens[1]);
  for (const char* type : {"bfloat16", "fp16", "e4m3", "e2m1"}) {
    if (!name.dtype && operands.starts_with(type)) name.dtype = dtype_of(type);
  }
  if (!name.dtype || !dtype_of(lower(tokens[0]))) return false;
  for (const std::string_view token : tokens) {
    std::string_view tail = token;
    int shape[3];
    const std::string_view plain = tail.substr(0, tail.find('u'));  // "t128x32x512u2"
    if (!name.tile_m && plain.starts_with('t') && dims(plain.substr(1), 3, shape)) {
      set_tile(name, shape[0], shape[1], shape[2]);
    } else if (take(tail, "sm")) {
      name.sm = number(tail.substr(0, tail.find_first_not_of("0123456789")));
    } else if (tail = token; take(tail, "s") && number(tail)) {
      name.stages = number(tail);
    } else if (tail = token; take(tail, "cga") ? dims(tail, 3, shape) : take(tail, "c") && dims(tail, 3, shape)) {
      set_cluster(name, shape[0], shape[1]);
    } else if (token == "swiGlu") {
      name.activation = "silu";
      name.multiplies = true;
    } else if (token == "TN" || token == "NT" || token == "NN") {
      set_layout(name, token);
    }
  }
  name.family = Family::serving;
  name.grouped = contains(text, "dynB");  // rows counted on the device, as for experts
  name.work = name.grouped ? Work::moe : Work::gemm;
  draft.what = "TensorRT-LLM batched matrix product (trtllm-gen)";
  return true;
}

constexpr Known kKnown[] = {
    {"finalizeMoeRoutingKernel", Family::serving, Work::moe, "TensorRT-LLM: weighted sum of the experts' results"},
    {"finalize::finalizeKernel", Family::serving, Work::moe, "TensorRT-LLM: weighted sum of the experts' results"},
    {"expandInputRowsKernel", Family::serving, Work::moe, "TensorRT-LLM: rows copied to their experts"},
    {"routingIndices", Family::serving, Work::moe, "TensorRT-LLM: routing to experts"},
    {"moe_align_block_size", Family::serving, Work::moe, "vLLM or SGLang: rows sorted by expert"},
    {"count_and_sort_expert_tokens", Family::serving, Work::moe, "SGLang: rows sorted by expert"},
    {"topkGatingSoftmax", Family::serving, Work::moe, "vLLM: choice of experts"},
    {"topkGating", Family::serving, Work::moe, "vLLM: choice of experts"},
    {"grouped_topk_fused", Family::serving, Work::moe, "choice of experts"},
    {"moe_sum_kernel", Family::serving, Work::moe, "vLLM: sum of the experts' results"},
    {"moe_fused_gate_kernel", Family::serving, Work::moe, "SGLang: choice of experts"},
    {"marlin_moe_wna16::Marlin", Family::serving, Work::moe, "Marlin product of the experts, weights in few bits",
     true},
    {"marlin::Marlin", Family::serving, Work::gemm, "Marlin product, weights in few bits"},
    {"Marlin<", Family::serving, Work::gemm, "Marlin product, weights in few bits"},
    {"rms_norm_kernel", Family::serving, Work::reduce, "RMS norm"},
    {"RMSNormKernel", Family::serving, Work::reduce, "RMS norm"},
    {"rotary_embedding_kernel", Family::serving, Work::elementwise, "rotary embedding"},
    {"BatchQKApplyRotary", Family::serving, Work::elementwise, "FlashInfer rotary embedding"},
    {"reshape_and_cache", Family::serving, Work::copy, "vLLM: keys and values into the cache"},
    {"cross_device_reduce_", Family::serving, Work::reduce, "all-reduce over GPUs"},
};

}  // namespace

bool serving(std::string_view text, Draft& draft) {
  if (act_and_mul(text, draft) || activation_kernel(text, draft) || tensorrt_llm(text, draft) ||
      trtllm_gen(text, draft)) {
    return true;
  }
  if (!by_word(kKnown, text, draft)) return false;
  draft.name.dtype = first_dtype(text);
  return true;
}

// CuTe DSL names hold module and class: kernel_cutlass_kernel_quackgemm_actGemmGatedSm90_object_at__...
bool cute_dsl(std::string_view text, Draft& draft) {
  if (!take(text, "kernel_cutlass_")) return false;
  KernelName& name = draft.name;
  name.family = Family::cute_dsl;
  const std::size_t at = text.find("Sm");
  if (at != std::string_view::npos) {
    const std::size_t from = at + 2;
    name.sm = number(text.substr(from, text.find_first_not_of("0123456789", from) - from));
  }
  const bool quack = contains(text, "quack");
  draft.what = quack ? "QuACK" : "CuTe DSL kernel";
  const bool gated = contains(text, "GemmGated") || contains(text, "GemmDGated");
  const bool act = contains(text, "GemmAct") || contains(text, "GemmDAct");
  name.backward = contains(text, "GemmDGated") || contains(text, "GemmDAct");
  if (gated || act) {
    name.work = Work::gemm;
    name.multiplies = gated;
    draft.what += gated ? " matrix product with a gated activation" : " matrix product with an activation";
    draft.notes.emplace_back("which activation is not in the name");
  } else if (contains(text, "Gemm") || contains(text, "gemm")) {
    name.work = Work::gemm;
    draft.what += " matrix product";
  } else if (contains(text, "rmsnorm") || contains(text, "RMSNorm") || contains(text, "softmax")) {
    name.work = Work::reduce;
    draft.what += " row reduction";
  } else if (contains(text, "flash") || contains(text, "Attention")) {
    name.work = Work::attention;
    draft.what += " attention";
  } else {
    draft.notes.emplace_back("its operation is not known here");
  }
  if (name.backward) draft.what += ", gradient";
  name.dtype = contains(text, "ptrbf16")  ? std::optional<std::string>("bf16")
               : contains(text, "ptrf16") ? std::optional<std::string>("fp16")
                                          : std::nullopt;
  return true;
}

// deep_gemm::sm90_bf16_gemm_impl<MajorA, MajorB, m, n, k, groups, block m, n, k, ...>
bool deep_gemm(std::string_view text, Draft& draft) {
  std::string_view rest = text;
  if (!take(rest, "deep_gemm::")) {
    // Profilers' tables drop the namespace.
    if (!text.starts_with("sm90_") && !text.starts_with("sm100_")) return false;
  }
  const std::size_t at = rest.find("_impl");
  const std::string_view function = rest.substr(0, at);
  std::string_view architecture = function.substr(0, function.find('_'));
  if (at == std::string_view::npos || !contains(function, "gemm") || !take(architecture, "sm")) return false;
  KernelName& name = draft.name;
  name.family = Family::deep_gemm;
  name.work = Work::gemm;
  name.sm = number(architecture);
  for (const std::string_view token : split(function, '_')) {
    if (!name.dtype) name.dtype = dtype_of(token);
  }
  name.grouped = contains(text, "Grouped");
  draft.what = name.grouped ? "DeepGEMM grouped matrix product" : "DeepGEMM matrix product";
  return true;
}

}  // namespace fusedmlp::trace::names
