// AMD: Tensile products of rocBLAS and hipBLASLt (Cijk_...), Composable Kernel, AITER.
//
// Sources: ROCm/Tensile's naming (index assignment, problem type, then abbreviated solution parameters), MI300X
// traces, ROCm/aiter hsa/gfx942/fmoe.
#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

// Data type letter of Tensile. The first of "HHS" or "BBS" is the operands'; hipBLASLt writes one letter a token.
std::optional<std::string> tensile_type(std::string_view token) {
  if (token.starts_with("F8") || token.starts_with("B8")) return "fp8";
  if (token.empty() || token.size() > 4) return {};
  for (const char letter : token) {
    if (letter != 'H' && letter != 'B' && letter != 'S' && letter != 'D') return {};
  }
  switch (token.front()) {
    case 'H': return "fp16";
    case 'B': return "bf16";
    case 'S': return "fp32";
    default: return "fp64";
  }
}

// A is [i,l] or [l,i]: the contracted index l first in memory means transposed, in BLAS' column-major words.
void tensile_layout(std::string_view a, std::string_view b, KernelName& name) {
  std::string layout;
  layout += a.starts_with("Ail") ? 'n' : a.starts_with("Ali") ? 't' : '?';
  layout += b.starts_with("Blj") ? 'n' : b.starts_with("Bjl") ? 't' : '?';
  if (layout.find('?') == std::string::npos) name.layout = layout;
}

bool tensile(std::string_view text, Draft& draft) {
  const std::size_t at = text.find("Cijk_");
  if (at == std::string_view::npos || at > 8) return false;  // "Custom_Cijk_" at most
  KernelName& name = draft.name;
  name.family = Family::rocm_gemm;
  name.work = Work::gemm;
  const std::vector<std::string_view> tokens = split(text.substr(at), '_');
  if (tokens.size() > 2) tensile_layout(tokens[1], tokens[2], name);
  bool lt = false;
  int tile[3];
  for (std::size_t i = 3; i < tokens.size(); ++i) {
    std::string_view tail = tokens[i];
    // "B_BS_BH": operands, then B with S, then batched.
    if (!name.dtype && i == 3) name.dtype = tensile_type(tail);
    if (tail == "UserArgs") lt = true;
    if (take(tail, "MT") && !name.tile_m && dims(tail, 3, tile)) set_tile(name, tile[0], tile[1], tile[2]);
    tail = tokens[i];
    // Global split of k; GSUAMB and GSUAMBSK name the algorithm, not a split.
    if (take(tail, "GSU") && number(tail) && *number(tail) > 1) name.split_k = true;
    tail = tokens[i];
    if (take(tail, "ISA") && number(tail)) draft.notes.push_back(core::format("for gfx{}", tail));
    if (tokens[i] == "Bias") {
      draft.notes.emplace_back("its epilogue can do bias: no proof that it did");
    }
    if (tokens[i] == "HA") draft.notes.emplace_back("its epilogue can do an activation: no proof that it did");
    if (tokens[i] == "GG") name.grouped = true;
  }
  draft.what = lt ? "hipBLASLt matrix product (Tensile)" : "rocBLAS matrix product (Tensile)";
  return true;
}

// fmoe_bf16_pertokenFp8_g1u1_vs_silu_1tg_32x192: both products of all experts and the activation in one kernel.
bool aiter_moe(std::string_view text, Draft& draft) {
  const std::size_t at = text.find("fmoe_");
  if (at == std::string_view::npos || (at > 0 && text[at - 1] != ':')) return false;
  KernelName& name = draft.name;
  name.family = Family::serving;
  name.work = Work::moe;
  name.grouped = true;
  draft.what = "AITER fused mixture of experts";
  std::string_view body = text.substr(at + 5);
  for (const std::string_view token : split(body.substr(0, body.find_first_of("(<")), '_')) {
    int tile[2];
    if (!name.dtype) name.dtype = dtype_of(token);
    if (token == "silu" || token == "gelu") name.activation = std::string(token);
    if (token == "g1u1") name.multiplies = true;
    if (dims(token, 2, tile)) set_tile(name, tile[0], tile[1]);
    if (contains(token, "Fp8")) draft.notes.emplace_back("weights in fp8");
    if (contains(token, "MXfp4")) draft.notes.emplace_back("weights in mxfp4");
  }
  return true;
}

constexpr Known kKnown[] = {
    {"ck_moe_", Family::serving, Work::moe, "Composable Kernel product of the experts", true},
    {"ck_tile::GroupedGemmKernel", Family::other, Work::gemm, "Composable Kernel grouped matrix product", true},
    {"ck_tile::GemmKernel", Family::other, Work::gemm, "Composable Kernel matrix product"},
    {"ck::kernel_gemm", Family::other, Work::gemm, "Composable Kernel matrix product"},
    {"ck_tile::Rmsnorm2dFwd", Family::other, Work::reduce, "Composable Kernel RMS norm"},
    {"wvSplitK", Family::gemv, Work::gemv, "vLLM matrix product for few rows (AMD)"},
    {"LLGemm1_kernel", Family::gemv, Work::gemv, "vLLM matrix-vector product (AMD)"},
    {"igemm_fwd_gtc", Family::other, Work::unknown, "MIOpen convolution"},
    {"batched_transpose_", Family::other, Work::copy, "MIOpen transposition"},
    {"SubTensorOpWithScalar", Family::other, Work::elementwise, "MIOpen fill or scale"},
    {"aiter::add_rmsnorm_quant_kernel", Family::other, Work::reduce, "AITER sum, RMS norm and quantisation"},
};

}  // namespace

bool amd(std::string_view text, Draft& draft) {
  return tensile(text, draft) || aiter_moe(text, draft) || by_word(kKnown, text, draft);
}

}  // namespace fusedmlp::trace::names
