#include "trace/kernel_name.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

#include "core/format.h"
#include "core/text.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace {
namespace names {
namespace {

// Tried in this order: a name that two could read belongs to the earlier one. Attention stands before CUTLASS, whose
// device_kernel<> it uses, and before Triton's templates.
constexpr Decoder kDecoders[] = {
    own,      nvjet,    xmma,           cublas_legacy, cublas_small, attention, aten,    cutlass3,
    cutlass2, inductor, triton_by_hand, cute_dsl,      deep_gemm,    amd,       serving, others,
};

// At most this much of a name is read: names are data from a file.
constexpr std::size_t kLongest = 1U << 16U;

std::string demangled(std::string_view name) {
  std::string text(name);
  if (!text.starts_with("_Z")) return text;
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> out(abi::__cxa_demangle(text.c_str(), nullptr, nullptr, &status),
                                                   std::free);
  return status == 0 && out ? std::string(out.get()) : text;
}

// What is before the name itself: the type that a template function returns.
std::string_view without_return_type(std::string_view text) {
  take(text, "void ");
  constexpr std::string_view kEnableIf = "std::enable_if<";
  if (text.starts_with(kEnableIf)) {
    const std::size_t at = text.find("::type ");
    if (at != std::string_view::npos) text.remove_prefix(at + 7);
  }
  return text;
}

void add(std::string& words, std::string_view part) {
  if (part.empty()) return;
  words += words.empty() ? "" : ", ";
  words += part;
}

std::string sentence(const Draft& draft) {
  const KernelName& name = draft.name;
  std::string words;
  if (name.dtype) add(words, *name.dtype);
  if (name.tile_m && name.tile_n && name.tile_k) {
    add(words, core::format("tile {}x{}x{}", *name.tile_m, *name.tile_n, *name.tile_k));
  } else if (name.tile_m && name.tile_n) {
    add(words, core::format("tile {}x{}", *name.tile_m, *name.tile_n));
  }
  if (name.stages) add(words, core::format("{} stage{}", *name.stages, *name.stages == 1 ? "" : "s"));
  if (name.cluster_m && name.cluster_n) add(words, core::format("cluster {}x{}", *name.cluster_m, *name.cluster_n));
  if (name.layout) add(words, core::format("layout {}", *name.layout));
  if (name.schedule) add(words, *name.schedule);
  if (name.split_k && name.work != Work::splitk_reduce) add(words, "split-K");
  if (name.fused_bias) add(words, "adds the bias");
  if (name.activation && name.work != Work::elementwise) {
    add(words, core::format("computes {}{}", *name.activation, name.multiplies ? " times a second half" : ""));
  }
  if (name.sm) add(words, core::format("written for sm_{}", *name.sm));
  for (const std::string& note : draft.notes) add(words, note);
  return words.empty() ? draft.what : core::format("{}: {}", draft.what, words);
}

}  // namespace
}  // namespace names

KernelName decode(std::string_view name) {
  const std::string text = names::demangled(name.substr(0, names::kLongest));
  const std::string_view body = names::without_return_type(text);
  for (const names::Decoder decoder : names::kDecoders) {
    names::Draft draft;
    if (!decoder(body, draft)) continue;
    draft.name.words = names::sentence(draft);
    return draft.name;
  }
  return {};
}

std::string certain(std::string_view name) {
  const std::string text = names::demangled(name.substr(0, names::kLongest));
  const std::string function = names::bare(names::without_return_type(text));
  std::string words;
  if (text != name) names::add(words, core::format("the mangled name of {}", core::quoted(function, 200)));
  const std::size_t at = function.rfind("::");
  if (at != std::string::npos && at > 0) {
    names::add(words, core::format("a C++ function in {}", core::quoted(function.substr(0, at), 200)));
  }
  return words;
}

const char* to_string(Family family) noexcept {
  switch (family) {
    case Family::unknown: return "unknown";
    case Family::cublas_legacy: return "cublas";
    case Family::cutlass2: return "cutlass2";
    case Family::cutlass3: return "cutlass3";
    case Family::xmma: return "xmma";
    case Family::nvjet: return "nvjet";
    case Family::splitk_reduce: return "splitk-reduce";
    case Family::gemv: return "gemv";
    case Family::inductor: return "inductor";
    case Family::inductor_mm: return "inductor-template";
    case Family::aten: return "aten";
    case Family::cudnn: return "cudnn";
    case Family::flash: return "attention";
    case Family::rocm_gemm: return "tensile";
    case Family::serving: return "serving";
    case Family::fusedmlp: return "fusedmlp";
    case Family::liger: return "liger";
    case Family::cute_dsl: return "cute-dsl";
    case Family::deep_gemm: return "deep-gemm";
    case Family::nccl: return "nccl";
    case Family::memory: return "memory";
    case Family::other: return "other";
  }
  return "unknown";
}

const char* to_string(Work work) noexcept {
  switch (work) {
    case Work::unknown: return "unknown";
    case Work::gemm: return "gemm";
    case Work::gemv: return "gemv";
    case Work::splitk_reduce: return "splitk-reduce";
    case Work::elementwise: return "elementwise";
    case Work::reduce: return "reduce";
    case Work::copy: return "copy";
    case Work::attention: return "attention";
    case Work::moe: return "moe";
    case Work::mlp: return "mlp";
  }
  return "unknown";
}

}  // namespace fusedmlp::trace
