#include "trace/kernel_name_parts.h"

#include <algorithm>
#include <cctype>

namespace fusedmlp::trace::names {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

struct TypeName {
  std::string_view text;
  const char* dtype;
};

// C++ element types, without their namespaces, and the short codes of kernel generators.
constexpr TypeName kTypes[] = {
    {"BFloat16", "bf16"},
    {"__nv_bfloat16", "bf16"},
    {"__hip_bfloat16", "bf16"},
    {"hip_bfloat16", "bf16"},
    {"nv_bfloat16", "bf16"},
    {"bfloat16_t", "bf16"},
    {"bfloat16", "bf16"},
    {"Bfloat16", "bf16"},
    {"bf16", "bf16"},
    {"Half", "fp16"},
    {"__half", "fp16"},
    {"half_t", "fp16"},
    {"half", "fp16"},
    {"fp16", "fp16"},
    {"f16", "fp16"},
    {"tfloat32_t", "tf32"},
    {"tf32", "tf32"},
    {"Float8_e4m3fn", "fp8"},
    {"Float8_e5m2", "fp8"},
    {"__nv_fp8_e4m3", "fp8"},
    {"__nv_fp8_e5m2", "fp8"},
    {"float_e4m3_t", "fp8"},
    {"float_e5m2_t", "fp8"},
    {"e4m3", "fp8"},
    {"e5m2", "fp8"},
    {"fp8", "fp8"},
    {"__nv_fp4_e2m1", "fp4"},
    {"float_e2m1_t", "fp4"},
    {"e2m1", "fp4"},
    {"float", "fp32"},
    {"fp32", "fp32"},
    {"f32", "fp32"},
    {"double", "fp64"},
    {"f64", "fp64"},
    {"int8_t", "int8"},
    {"s8", "int8"},
};

}  // namespace

bool by_word(std::span<const Known> table, std::string_view text, Draft& draft) {
  const auto found =
      std::find_if(table.begin(), table.end(), [text](const Known& known) { return contains(text, known.word); });
  if (found == table.end()) return false;
  draft.name.family = found->family;
  draft.name.work = found->work;
  draft.name.grouped = found->grouped;
  draft.what = found->what;
  return true;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool contains_word(std::string_view text, std::string_view word) {
  for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const bool begins = at == 0 || !is_word(text[at - 1]);
    const std::size_t end = at + word.size();
    if (begins && (end == text.size() || !is_word(text[end]))) return true;
  }
  return false;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<int> number(std::string_view text) {
  if (text.empty() || text.size() > 6) return {};
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return {};
    value = value * 10 + (c - '0');
  }
  return value;
}

bool dims(std::string_view token, int count, int* out) {
  const std::vector<std::string_view> parts = split(token, 'x');
  if (static_cast<int>(parts.size()) != count) return false;
  for (int i = 0; i < count; ++i) {
    const std::optional<int> value = number(parts[static_cast<std::size_t>(i)]);
    if (!value) return false;
    out[i] = *value;
  }
  return true;
}

std::optional<std::string> dtype_of(std::string_view token) {
  if (const std::size_t at = token.rfind(':'); at != std::string_view::npos) token.remove_prefix(at + 1);
  const auto* const found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                         [token](const TypeName& type) { return type.text == token; });
  if (found == std::end(kTypes)) return {};
  return found->dtype;
}

std::optional<std::string> first_dtype(std::string_view text, std::size_t from) {
  // Identifiers, with their namespaces, one after the other.
  for (std::size_t at = from; at < text.size();) {
    if (!is_word(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && (is_word(text[end]) || text.substr(end, 2) == "::")) {
      end += text[end] == ':' ? 2 : 1;
    }
    if (std::optional<std::string> type = dtype_of(text.substr(at, end - at))) return type;
    at = end;
  }
  return {};
}

std::string_view template_arguments(std::string_view text, std::string_view name) {
  for (std::size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const std::size_t open = at + name.size();
    if ((at > 0 && is_word(text[at - 1])) || open >= text.size() || text[open] != '<') continue;
    int depth = 0;
    for (std::size_t i = open; i < text.size(); ++i) {
      if (text[i] == '<') ++depth;
      if (text[i] == '>' && text[i - 1] != '-' && --depth == 0) return text.substr(open + 1, i - open - 1);
    }
    return text.substr(open + 1);  // cut off: what there is
  }
  return {};
}

std::string bare(std::string_view text) {
  std::string out;
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    constexpr std::string_view kAnonymous = "(anonymous namespace)";
    if (depth == 0 && text.substr(i, kAnonymous.size()) == kAnonymous) {
      out += kAnonymous;
      i += kAnonymous.size() - 1;
    } else if (c == '<' || c == '(') {
      ++depth;
    } else if (c == '>' || c == ')') {
      depth = std::max(depth - 1, 0);
    } else if (depth == 0) {
      out += c;
    }
  }
  return out;
}

void set_tile(KernelName& name, int m, int n, std::optional<int> k) {
  name.tile_m = m;
  name.tile_n = n;
  if (k) name.tile_k = k;
}

void set_cluster(KernelName& name, int m, int n) {
  name.cluster_m = m;
  name.cluster_n = n;
}

bool set_layout(KernelName& name, std::string_view token) {
  if (token.size() < 2 || token.size() > 3) return false;
  std::string layout;
  for (const char c : token) {
    const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (lower != 't' && lower != 'n') return false;
    layout += lower;
  }
  name.layout = layout;
  return true;
}

}  // namespace fusedmlp::trace::names
