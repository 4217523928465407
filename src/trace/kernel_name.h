// What a GPU kernel's name says. Fields that it does not say are empty; nothing is guessed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  serving,    // vLLM, SGLang, TensorRT-LLM, FlashInfer, AITER: act_and_mul, MoE
  fusedmlp,   // this library's own
  liger,
  cute_dsl,  // QuACK and other CuTe DSL kernels
  deep_gemm,
  nccl,
  memory,  // Memcpy and Memset records of the profiler
  other,   // known, but none of these
};

const char* to_string(Family family) noexcept;

// What it computes, as far as the name proves it.
enum class Work : std::uint8_t { unknown, gemm, gemv, splitk_reduce, elementwise, reduce, copy, attention, moe, mlp };

const char* to_string(Work work) noexcept;

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
  bool grouped = false;                   // several products of different sizes, as in MoE
  bool backward = false;                  // proven by the name
  bool fused_bias = false;                // proven by the name
  std::optional<std::string> activation;  // "gelu", "silu", "relu", ...: proven to be computed, not a capability
  bool multiplies = false;                // element-wise product of two tensors (gated): proven; Inductor: see ops
  // Element-wise operations that the name lists, in its order, by their ATen names: "mul", "mul_scalar", "add",
  // "add_scalar", "pow2", "pow3", "pow", "tanh", "sigmoid", "clamp", "copy", "cast", "gelu", "mm", ...
  std::vector<std::string> ops;
  std::string words;  // one sentence for a person; empty when unknown
};

// Mangled and demangled forms. Never fails: an unknown name has Family::unknown. An `activation` of "gelu" is the
// erf form where ATen's or vLLM's name says so, and either form where only an op's name is known (Inductor).
KernelName decode(std::string_view name);

// What is certain of any name, known or not: its demangled form, its namespace. Empty: nothing.
std::string certain(std::string_view name);

}  // namespace fusedmlp::trace
