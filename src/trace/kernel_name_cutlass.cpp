// CUTLASS: the generated names of version 2 (cutlass_80_...) and 3 (cutlass3x_sm90_...), which cuBLAS and
// PyTorch use too, and kernels named by their template types.
//
// Sources: CUTLASS' own description of its kernel names (profiler documentation), H100 traces, public serving
// profiles on B200.
#include <algorithm>
#include <array>

#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

bool is_gemm(std::string_view token) { return token.ends_with("gemm"); }

// relu, gelu, bias: an epilogue that can do it. cuBLAS runs `..gemm_relu_..` under a plain addmm.
void note_epilogue(std::string_view token, Draft& draft) {
  for (const char* word : {"relu", "gelu", "dgelu", "silu", "bias"}) {
    if (token == word) {
      draft.notes.push_back(core::format("its epilogue can do {}: no proof that it did", word));
    }
  }
}

void set_schedule(std::string_view text, KernelName& name) {
  const auto any = [text](std::string_view a, std::string_view b) { return contains(text, a) || contains(text, b); };
  std::string schedule;
  if (any("pingpong", "Pingpong")) schedule = "pingpong";
  if (any("cooperative", "Cooperative")) schedule = "cooperative";
  if (any("stream_k", "StreamK")) schedule += schedule.empty() ? "stream-k" : ", stream-k";
  if (schedule.empty() && any("warpspecialized", "WarpSpecialized")) schedule = "warp-specialized";
  if (!schedule.empty()) name.schedule = schedule;
}

// s1688gemm and its like say the tensor core's step; without a type before it the operands are fp32, as tf32.
void set_cutlass2_type(std::string_view gemm, Draft& draft) {
  KernelName& name = draft.name;
  if (name.dtype) return;
  if (gemm == "sgemm") name.dtype = "fp32";
  if (gemm == "dgemm" || gemm == "d884gemm") name.dtype = "fp64";
  if (gemm == "hgemm" || (gemm.size() > 5 && gemm.front() == 'h')) name.dtype = "fp16";
  if (gemm == "s1688gemm" || gemm == "s1688tf32gemm") name.dtype = "tf32";
}

bool generated2(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  const std::vector<std::string_view> tokens = split(text, '_');
  bool product = false;
  int pair[2];
  for (const std::string_view token : tokens) {
    std::string_view tail = token;
    if (!product && !name.sm && number(token)) {
      name.sm = number(token);
    } else if (!product && is_gemm(token)) {
      product = true;
      set_cutlass2_type(token, draft);
      if (token == "sgemm") draft.notes.emplace_back("on ordinary fp32 units, not on tensor cores");
    } else if (!name.dtype && dtype_of(token)) {
      name.dtype = dtype_of(token);
    } else if (!name.tile_m && dims(token, 2, pair)) {
      set_tile(name, pair[0], pair[1]);
    } else if (name.tile_m && !name.stages && dims(token, 2, pair)) {
      name.tile_k = pair[0];
      name.stages = pair[1];
    } else if (token == "splitK" || token == "splitk") {
      name.split_k = true;
    } else if (token == "grouped") {
      name.grouped = true;
    } else if (take(tail, "align") && number(tail)) {
      if (*number(tail) == 1) draft.notes.emplace_back("rows not aligned: loads of one element");
    } else if (name.tile_m && !name.layout && token.size() == 2) {
      set_layout(name, token);
    }
    note_epilogue(token, draft);
  }
  if (!product) {
    const bool convolution = contains(text, "fprop") || contains(text, "dgrad") || contains(text, "wgrad");
    draft.what = convolution ? "CUTLASS convolution" : "CUTLASS kernel";
    name.work = Work::unknown;
    name.layout.reset();
    return convolution;
  }
  name.work = Work::gemm;
  draft.what = "CUTLASS 2 matrix product";
  return true;
}

bool generated3(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  std::string_view architecture = text.substr(0, text.find('_'));
  if (!take(architecture, "sm") || !number(architecture)) return false;
  name.sm = number(architecture);
  bool product = false;
  int triple[3];
  bool cluster = false;
  for (const std::string_view token : split(text, '_')) {
    if (!product) {
      product = is_gemm(token);
      if (token == "simt") draft.notes.emplace_back("on ordinary fp32 units, not on tensor cores");
    } else if (!name.dtype && dtype_of(token)) {
      name.dtype = dtype_of(token);
    } else if (!name.tile_m && dims(token, 3, triple)) {
      set_tile(name, triple[0], triple[1], triple[2]);
    } else if (name.tile_m && !cluster && dims(token, 3, triple)) {
      cluster = true;
      set_cluster(name, triple[0], triple[1]);
    } else if (cluster && !name.stages && number(token)) {
      if (*number(token) > 0) name.stages = number(token);  // 0: as many as fit
    } else if (name.tile_m && !name.layout && token.size() == 3) {
      set_layout(name, token);
    }
    note_epilogue(token, draft);
  }
  if (!product) return false;
  set_schedule(text, name);
  name.work = Work::gemm;
  draft.what = "CUTLASS 3 matrix product";
  return true;
}

// The numbers of the first `cute::tuple<cute::C<64>, ...>` (or cute::_64) in text; empties it up to there.
bool take_tuple(std::string_view& text, std::array<int, 3>& out) {
  const std::size_t at = text.find("tuple<");
  if (at == std::string_view::npos) return false;
  text.remove_prefix(at + 6);
  int count = 0;
  std::string digits;
  int depth = 1;
  std::size_t i = 0;
  const auto flush = [&] {
    if (const std::optional<int> value = number(digits); value && count < 3)
      out[static_cast<std::size_t>(count++)] = *value;
    digits.clear();
  };
  for (; i < text.size() && depth > 0; ++i) {
    const char c = text[i];
    if (c >= '0' && c <= '9') {
      digits += c;
      continue;
    }
    flush();
    if (c == '<') ++depth;
    if (c == '>') --depth;
    if (c == '(') i = std::min(text.find(')', i), text.size() - 1);  // "(int)64"
  }
  text.remove_prefix(std::min(i, text.size()));
  return count == 3;
}

// The architecture of "Sm90", "Sm100" after `word`.
std::optional<int> architecture_after(std::string_view text, std::string_view word) {
  const std::size_t at = text.find(word);
  if (at == std::string_view::npos) return {};
  const std::size_t from = at + word.size();
  return number(text.substr(from, text.find_first_not_of("0123456789", from) - from));
}

bool by_types(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  name.work = Work::gemm;
  name.grouped = contains(text, "GroupProblemShape") || contains(text, "GemmGrouped");
  name.sm = architecture_after(text, "MainloopSm");
  set_schedule(text, name);
  draft.what = name.grouped ? "CUTLASS 3 grouped matrix product" : "CUTLASS 3 matrix product";
  std::size_t at = text.find("MainloopSm");
  std::string_view rest = at == std::string_view::npos ? std::string_view() : text.substr(at);
  const std::size_t open = rest.find('<');
  if (open == std::string_view::npos) return true;  // a mangled or cut name: no more than this
  rest.remove_prefix(open + 1);
  if (take(rest, "(int)")) {
  }
  name.stages = number(rest.substr(0, rest.find_first_not_of("0123456789")));
  // Sm90: <stages, cluster, schedule>, tile, element of A. Sm100: <stages, ., ., cluster>, tile, element of A.
  std::array<int, 3> cluster{};
  std::array<int, 3> tile{};
  if (take_tuple(rest, cluster)) set_cluster(name, cluster[0], cluster[1]);
  if (take_tuple(rest, tile)) {
    set_tile(name, tile[0], tile[1], tile[2]);
    name.dtype = first_dtype(rest);
  }
  if (contains(text, "epilogue::fusion")) {
    draft.notes.emplace_back("its epilogue's types are in the name, not interpreted");
  }
  return true;
}

// The generated name inside text: from `start` to its end, where what follows `start` is one of a generator's words.
std::string_view generated_name(std::string_view text, std::string_view start) {
  for (std::size_t at = text.find(start); at != std::string_view::npos; at = text.find(start, at + 1)) {
    std::string_view rest = text.substr(at + start.size());
    const bool digit = !rest.empty() && rest.front() >= '0' && rest.front() <= '9';
    if (!digit && !rest.starts_with("tensorop_") && !rest.starts_with("simt_") && !rest.starts_with("sm")) continue;
    return rest.substr(0, rest.find_first_of("<>(): ,"));
  }
  return {};
}

}  // namespace

bool cutlass3(std::string_view text, Draft& draft) {
  const std::string_view name = generated_name(text, "cutlass3x_");
  bool known = false;
  if (!name.empty()) {
    known = generated3(name, draft);
  } else if (contains(text, "device_kernel") && contains(text, "cutlass") &&
             (contains(text, "GemmUniversal") || contains(text, "CollectiveMma") || contains(text, "GemmKernel"))) {
    known = by_types(text, draft);
  }
  if (known) draft.name.family = Family::cutlass3;
  return known;
}

bool cutlass2(std::string_view text, Draft& draft) {
  const std::string_view name = generated_name(text, "cutlass_");
  bool known = false;
  if (!name.empty()) {
    known = generated2(name, draft);
  } else if (text.starts_with("cutlass::Kernel") && contains(text, "gemm::kernel::")) {
    draft.name.work = Work::gemm;
    draft.name.grouped = contains(text, "GemmGrouped") || contains(text, "MoeFCGemm");
    draft.name.dtype = first_dtype(text);
    draft.what = draft.name.grouped ? "CUTLASS 2 grouped matrix product" : "CUTLASS 2 matrix product";
    draft.notes.emplace_back("named by its template types, of which only the kind is read");
    known = true;
  }
  if (known) draft.name.family = Family::cutlass2;
  return known;
}

}  // namespace fusedmlp::trace::names
