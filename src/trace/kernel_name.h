// What a GPU kernel's name says. Fields that it does not say are empty; nothing is guessed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fusedmlp::trace {

enum class Family : std::uint8_t {
  unknown,
  cublas_legacy,  // ampere_bf16_s16816gemm_...
  cutlass2,
  cutlass3,
  xmma,
  nvjet,
  splitk_reduce,
  gemv,
  inductor,     // triton_{poi,red,per}_fused_...
  inductor_mm,  // triton_mm_58 and templates
  aten,         // elementwise, reduce, copy
  cudnn,
  flash,
  rocm_gemm,  // Cijk_...
  serving,    // vLLM, SGLang: act_and_mul, MoE
  fusedmlp,   // this library's own
  other,      // known, but none of these
};

// What it computes, as far as the name proves it.
enum class Work : std::uint8_t { unknown, gemm, gemv, splitk_reduce, elementwise, reduce, copy, attention, moe, mlp };

struct KernelName {
  Family family = Family::unknown;
  Work work = Work::unknown;
  std::optional<int> sm;             // architecture in the name: the kernel's, not the device's
  std::optional<std::string> dtype;  // of the operands: "bf16", "fp16", "fp32", "tf32", "fp8"
  std::optional<int> tile_m, tile_n, tile_k;
  std::optional<int> stages;
  std::optional<int> cluster_m, cluster_n;
  std::optional<std::string> layout;    // "tn", "nn", ...
  std::optional<std::string> schedule;  // "cooperative", "pingpong", "stream-k", ...
  bool split_k = false;
  bool fused_bias = false;                // proven by the name
  std::optional<std::string> activation;  // "gelu", "silu", "relu", ...: proven to be computed, not a capability
  bool multiplies = false;                // element-wise product (gated)
  std::string words;                      // one sentence for a person; empty when unknown
};

// Mangled and demangled forms. Never fails: an unknown name has Family::unknown.
KernelName decode(std::string_view name);

}  // namespace fusedmlp::trace
