// cuBLAS and cuBLASLt: nvjet, xmma, the older generated names, split-K reduces and matrix-vector kernels.
//
// Sources: the names of profiler traces on H100 and H200 beside the ops that launched them; public profiles (vLLM,
// SGLang, TensorRT) for fp16, fp8, fp4, Volta, Turing, Ada and Blackwell names.
#include <algorithm>

#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

// nvjet's letters: one per operand and result, one for the sum. bf16 and fp32 from bf16 traces (tst: bf16 operands
// and result, fp32 sum), fp16 from fp16 traces (hsh), fp8 and fp4 from scaled products (qqtst, ootst).
std::optional<std::string> nvjet_type(char letter) {
  switch (letter) {
    case 't': return "bf16";
    case 'h': return "fp16";
    case 's': return "fp32";
    case 'q': return "fp8";
    case 'o': return "fp4";
    case 'd': return "fp64";
    default: return {};
  }
}

bool nvjet_types(std::string_view token, Draft& draft) {
  if (token.size() != 3 && token.size() != 5) return false;
  for (const char letter : token) {
    if (!nvjet_type(letter)) return false;
  }
  draft.name.dtype = nvjet_type(token.front());
  const std::optional<std::string> result = nvjet_type(token.back());
  if (result && result != draft.name.dtype) draft.notes.push_back(core::format("result in {}", *result));
  return true;
}

// What plain words of an nvjet name say; the rest is quoted in the sentence and not interpreted.
bool nvjet_word(std::string_view token, Draft& draft) {
  KernelName& name = draft.name;
  if (token == "tf32") {
    name.dtype = "tf32";
  } else if (token == "splitK") {
    name.split_k = true;
  } else if (token == "bias") {
    name.fused_bias = true;
  } else if (token == "coopA" || token == "coopB") {
    name.schedule = "cooperative";
  } else if (token == "bz") {  // in every name, meaning not public
  } else if (token == "2cta") {
    draft.notes.emplace_back("two CTAs share a product");
  } else if (token == "h" || token == "v") {
    draft.notes.push_back(core::format("raster {}", token));
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool nvjet(std::string_view text, Draft& draft) {
  if (!take(text, "nvjet_")) return false;
  KernelName& name = draft.name;
  name.family = Family::nvjet;
  name.work = Work::gemm;
  draft.what = "cuBLAS matrix product (nvjet)";
  std::string rest;
  int pair[2];
  int pairs = 0;  // tile, k x stages, cluster, in this order
  for (const std::string_view token : split(text, '_')) {
    std::string_view tail = token;
    if (!name.sm && pairs == 0 && take(tail, "sm") && number(tail)) {
      name.sm = number(tail);
    } else if (pairs == 0 && !name.dtype && nvjet_types(token, draft)) {
    } else if (pairs < 3 && dims(token, 2, pair)) {
      ++pairs;
      if (pairs == 1) set_tile(name, pair[0], pair[1]);
      if (pairs == 2) name.tile_k = pair[0], name.stages = pair[1];
      if (pairs == 3) set_cluster(name, pair[0], pair[1]);
    } else if (!nvjet_word(token, draft) && !(token.size() == 3 && set_layout(name, token))) {
      rest += rest.empty() ? "" : ", ";
      rest += token;
    }
  }
  if (!name.dtype && !name.tile_m) return false;
  if (!rest.empty()) draft.notes.push_back(core::format("not interpreted: {}", rest));
  return true;
}

namespace {

// Two element types written as one word: "bf16bf16", "e4m3bf16".
bool type_pair(std::string_view token, std::string& first, std::string& second) {
  for (std::size_t cut = 2; cut + 2 <= token.size(); ++cut) {
    const std::optional<std::string> a = dtype_of(token.substr(0, cut));
    const std::optional<std::string> b = dtype_of(token.substr(cut));
    if (a && b) {
      first = *a, second = *b;
      return true;
    }
  }
  return false;
}

// "relu" and "bias" in the names of generated kernels are what the epilogue can do: a plain addmm runs them too.
void note_capability(std::string_view text, Draft& draft) {
  for (const char* word : {"relu", "gelu"}) {
    if (contains(text, word)) {
      draft.notes.push_back(core::format("its epilogue can do {}: no proof that it did", word));
    }
  }
  if (contains(text, "_bias")) draft.notes.emplace_back("its epilogue can do bias: no proof that it did");
}

}  // namespace

bool xmma(std::string_view text, Draft& draft) {
  const std::size_t at = text.find("_xmma_gemm_");
  std::string_view architecture = text.substr(0, at);
  if (at == std::string_view::npos || !take(architecture, "sm") || !number(architecture)) return false;
  KernelName& name = draft.name;
  name.family = Family::xmma;
  name.work = Work::gemm;
  name.sm = number(architecture);
  draft.what = contains(text, "_trt") ? "TensorRT matrix product (xmma)" : "cuBLAS matrix product (xmma)";
  std::string first;
  std::string second;
  int types = 0;
  for (const std::string_view token : split(text.substr(at + 11), '_')) {
    std::string_view tail = token;
    int tile[3];
    if (types < 2 && type_pair(token, first, second)) {
      ++types;
      if (types == 1) name.dtype = first;
      // The second pair: type of the multiplication and of the sum.
      if (types == 2 && first == "tf32") name.dtype = "tf32";
    } else if (take(tail, "tilesize") && dims(tail, 3, tile)) {
      set_tile(name, tile[0], tile[1], tile[2]);
    } else if (tail = token; take(tail, "stage") && number(tail)) {
      name.stages = number(tail);
    } else if (tail = token; take(tail, "warpgroupsize") && dims(tail, 3, tile)) {
      if (tile[0] * tile[1] * tile[2] > 1) {
        draft.notes.push_back(core::format("{} warpgroups a tile", tile[0] * tile[1] * tile[2]));
      }
    } else if (tail = token; take(tail, "warpsize") && dims(tail, 3, tile)) {
      if (tile[0] * tile[1] * tile[2] > 1) {
        draft.notes.push_back(core::format("{} warps a tile", tile[0] * tile[1] * tile[2]));
      }
    } else if (token == "ffma") {
      draft.notes.emplace_back("on ordinary fp32 units, not on tensor cores");
    } else if (token == "splitK" || token == "splitk") {
      name.split_k = true;
    } else if (!name.layout && token.size() == 2) {
      set_layout(name, token);
    }
  }
  note_capability(text, draft);
  return true;
}

namespace {

struct Architecture {
  std::string_view word;
  int sm;
};

// The generation that a name is written for. Hopper names follow the same grammar.
constexpr Architecture kArchitectures[] = {
    {"maxwell_", 50}, {"pascal_", 60}, {"volta_", 70}, {"turing_", 75}, {"ampere_", 80}, {"hopper_", 90},
};

struct Instruction {
  std::string_view word;  // how the token of the instruction starts
  const char* dtype;      // empty: another token says it
  bool tensor;
};

// s16816gemm: fp32 sum (s) over tensor-core steps of 16x8x16; h16816gemm: fp16 sum. sgemm: fp32 units.
constexpr Instruction kInstructions[] = {
    {"s16816gemm", "", true},    {"s161616gemm", "", true},    {"s1688gemm", "", true},
    {"s884gemm", "", true},      {"h16816gemm", "fp16", true}, {"h161616gemm", "fp16", true},
    {"h1688gemm", "fp16", true}, {"h884gemm", "fp16", true},   {"i16832gemm", "int8", true},
    {"i8816gemm", "int8", true}, {"d884gemm", "fp64", true},   {"sgemm", "fp32", false},
    {"hgemm", "fp16", false},    {"dgemm", "fp64", false},     {"cgemm", "complex", false},
    {"igemm", "int8", false},
};

}  // namespace

bool cublas_legacy(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  std::string_view body = text;
  const bool tensorrt = take(body, "trt_");
  for (const Architecture& architecture : kArchitectures) {
    if (take(body, architecture.word)) name.sm = architecture.sm;
  }
  if (!name.sm) return false;
  bool product = false;
  int tile[2];
  for (const std::string_view token : split(body, '_')) {
    std::string_view tail = token;
    if (!product) {
      if (std::optional<std::string> type = dtype_of(token)) name.dtype = type;
      for (const Instruction& instruction : kInstructions) {
        if (token != instruction.word) continue;
        product = true;
        if (*instruction.dtype != '\0' && !name.dtype) name.dtype = instruction.dtype;
        // Tensor cores and no type in the name: fp32 operands, rounded to tf32.
        if (!name.dtype && instruction.tensor && *name.sm >= 80) name.dtype = "tf32";
        if (!instruction.tensor) draft.notes.emplace_back("on ordinary units, not on tensor cores");
      }
    } else if (!name.tile_m && dims(token, 2, tile)) {
      set_tile(name, tile[0], tile[1]);
    } else if (name.tile_m && !name.stages && dims(token, 2, tile)) {
      name.tile_k = tile[0];  // after the word "stages"
      name.stages = tile[1];
    } else if (take(tail, "sliced1x") && number(tail)) {
      draft.notes.push_back(core::format("k cut in {} inside a block", *number(tail)));
    } else if (token == "splitK") {
      name.split_k = true;
    } else if (!name.layout && token.size() == 2) {
      set_layout(name, token);
    }
  }
  if (!product) {
    name = {};
    draft.notes.clear();
    return false;
  }
  name.family = Family::cublas_legacy;
  name.work = Work::gemm;
  draft.what = tensorrt ? "TensorRT matrix product" : "cuBLAS matrix product";
  note_capability(body, draft);
  return true;
}

namespace {

struct SmallKernel {
  std::string_view name;  // of the function, without namespaces
  Family family;
  Work work;
  const char* what;
};

constexpr SmallKernel kSmall[] = {
    {"splitKreduce_kernel", Family::splitk_reduce, Work::splitk_reduce,
     "cuBLAS: adds the partial sums of the split-K product before it"},
    {"gemv2T_kernel_val", Family::gemv, Work::gemv, "cuBLAS matrix-vector product, transposed matrix"},
    {"gemv2N_kernel", Family::gemv, Work::gemv, "cuBLAS matrix-vector product"},
    {"gemv2N_kernel_val", Family::gemv, Work::gemv, "cuBLAS matrix-vector product"},
    {"gemvNSP_kernel", Family::gemv, Work::gemv, "cuBLAS matrix-vector product"},
    {"gemvx::kernel", Family::gemv, Work::gemv, "cuBLAS matrix-vector product"},
    {"gemmk1_kernel", Family::gemv, Work::gemv, "cuBLAS product with an inner width of 1"},
    {"gemmSN_TN_kernel", Family::cublas_legacy, Work::gemm, "cuBLAS matrix product for few columns"},
    {"gemmSN_NN_kernel", Family::cublas_legacy, Work::gemm, "cuBLAS matrix product for few columns"},
    {"gemmSN_TN_kernel_64addr", Family::cublas_legacy, Work::gemm, "cuBLAS matrix product for few columns"},
    {"dot_kernel", Family::gemv, Work::gemv, "cuBLAS dot products: a matrix-vector product's first half"},
    {"reduce_1Block_kernel", Family::gemv, Work::splitk_reduce, "cuBLAS: adds the partial dot products before it"},
};

}  // namespace

bool cublas_small(std::string_view text, Draft& draft) {
  const std::string function = bare(text);
  for (const SmallKernel& kernel : kSmall) {
    if (!function.ends_with(kernel.name) && function != kernel.name) continue;
    const std::size_t at = function.size() - kernel.name.size();
    // In cublasLt::, internal:: or no namespace; a longer word is another kernel.
    if (at > 0 && function[at - 1] != ':' && function[at - 1] != ' ') continue;
    const bool qualified = contains(function, "cublas") || contains(function, "internal::") || at == 0;
    if (!qualified || (kernel.name == "dot_kernel" && !contains(text, "cublas"))) continue;
    draft.name.family = kernel.family;
    draft.name.work = kernel.work;
    draft.name.split_k = kernel.family == Family::splitk_reduce;
    draft.what = kernel.what;
    if (kernel.name.starts_with("gemmSN_TN")) draft.name.layout = "tn";
    if (kernel.name.starts_with("gemmSN_NN")) draft.name.layout = "nn";
    // The operands' type is in the parameters' type; the first template argument may be the sum's.
    std::size_t types = text.find("TensorStridedBatched<");
    if (types == std::string_view::npos) types = text.find('<');
    draft.name.dtype = first_dtype(text, std::min(types, text.size()));
    if (kernel.family == Family::splitk_reduce) {
      // float first is the type of the sums; the operands' type, if another one is there, is the result's.
      const std::string_view arguments = template_arguments(text, "splitKreduce_kernel");
      for (const std::string_view argument : split(arguments, ',')) {
        std::string_view word = argument;
        while (take(word, " ")) {
        }
        if (const std::optional<std::string> type = dtype_of(word); type && *type != "fp32") {
          draft.name.dtype = type;
          break;
        }
      }
    }
    return true;
  }
  return false;
}

}  // namespace fusedmlp::trace::names
