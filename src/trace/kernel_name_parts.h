// What the decoders of single families share. Internal to the decoder.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trace/kernel_name.h"

namespace fusedmlp::trace::names {

// A name that is being decoded, and what only its sentence needs.
struct Draft {
  KernelName name;
  std::string what;                // "cuBLAS matrix product (nvjet)"
  std::vector<std::string> notes;  // what else is certain, and what the name does not prove
};

// True: the name is of this family, and the draft is filled. The text is demangled, without "void " in front.
using Decoder = bool (*)(std::string_view text, Draft& draft);

bool nvjet(std::string_view text, Draft& draft);
bool xmma(std::string_view text, Draft& draft);
bool cublas_legacy(std::string_view text, Draft& draft);
bool cublas_small(std::string_view text, Draft& draft);  // split-K reduces, GEMV kinds
bool cutlass3(std::string_view text, Draft& draft);      // by name or by its device_kernel<...>
bool cutlass2(std::string_view text, Draft& draft);
bool inductor(std::string_view text, Draft& draft);
bool triton_by_hand(std::string_view text, Draft& draft);  // Liger, vLLM's fused MoE, triton_kernels
bool aten(std::string_view text, Draft& draft);
bool attention(std::string_view text, Draft& draft);  // cuDNN and flash kinds
bool amd(std::string_view text, Draft& draft);
bool serving(std::string_view text, Draft& draft);
bool cute_dsl(std::string_view text, Draft& draft);
bool deep_gemm(std::string_view text, Draft& draft);
bool own(std::string_view text, Draft& draft);
bool others(std::string_view text, Draft& draft);  // NCCL, copies, norms, cuDNN's other kernels

// A kernel that a word in its name gives away.
struct Known {
  std::string_view word;
  Family family;
  Work work;
  const char* what;
  bool grouped = false;
};

// The first of the table whose word is in the text, into the draft; false: none.
bool by_word(std::span<const Known> table, std::string_view text, Draft& draft);

// Text helpers.
bool contains(std::string_view text, std::string_view part);
bool contains_word(std::string_view text, std::string_view word);  // not inside a longer identifier
bool take(std::string_view& text, std::string_view prefix);        // removes it from the front if it is there
std::vector<std::string_view> split(std::string_view text, char separator);
std::optional<int> number(std::string_view text);  // all digits, at most six

// "128x256x64" with exactly `count` parts.
bool dims(std::string_view token, int count, int* out);

// "bf16" of "bf16", "bfloat16", "__nv_bfloat16", "c10::BFloat16", ...; empty: no type that is known.
std::optional<std::string> dtype_of(std::string_view token);

// The first type that a C++ name mentions after `from`, read as an element type.
std::optional<std::string> first_dtype(std::string_view text, std::size_t from = 0);

// Argument list of the first template called `name`, without the brackets; empty: none, or cut off.
std::string_view template_arguments(std::string_view text, std::string_view name);

// The text with every bracketed argument list of functions and templates removed: the bare qualified name.
std::string bare(std::string_view text);

void set_tile(KernelName& name, int m, int n, std::optional<int> k = {});
void set_cluster(KernelName& name, int m, int n);
bool set_layout(KernelName& name, std::string_view token);  // "tn", "TNT"

}  // namespace fusedmlp::trace::names
