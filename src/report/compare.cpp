// Two traces of one model: which MLP became which, and which kernels came and went.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "core/format.h"
#include "fusedmlp/analysis.h"
#include "report/figures.h"
#include "report/wording.h"
#include "trace/traffic.h"

namespace fusedmlp {
namespace {

template <class Value>
bool agree(const std::optional<Value>& a, const std::optional<Value>& b) {
  return !a || !b || a == b;
}

bool same_widths(const MlpRow& a, const MlpRow& b) {
  return a.d_in == b.d_in && a.d_hidden == b.d_hidden && a.d_out == b.d_out;
}

// Activations that a trace may not tell apart: the tanh form of gelu is an argument that profiles of the CPU leave
// out, and names of generated kernels are the same for x sigmoid(x) and x sigmoid(1.702 x).
constexpr std::pair<std::string_view, std::string_view> kAlike[] = {
    {"gelu", "gelu_tanh"}, {"geglu", "geglu_tanh"}, {"silu", "quick_gelu"}, {"swiglu", "quick_geglu"}};

bool may_be_one_kind(const MlpRow& a, const MlpRow& b) {
  if (!trace::activation_known(a) || !trace::activation_known(b)) return true;
  return a.kind == b.kind || std::any_of(std::begin(kAlike), std::end(kAlike), [&](const auto& alike) {
           return alike == std::pair<std::string_view, std::string_view>(a.kind, b.kind) ||
                  alike == std::pair<std::string_view, std::string_view>(b.kind, a.kind);
         });
}

// The ways in which a row of b may be that of a, best first: identical; of another dtype; with biases or without;
// where one trace holds no shapes; the same products with an activation that a trace does not show.
bool identical(const MlpRow& a, const MlpRow& b) {
  return a.kind == b.kind && same_widths(a, b) && a.tokens == b.tokens && a.dtype == b.dtype && a.bias == b.bias;
}
bool but_for_dtype(const MlpRow& a, const MlpRow& b) {
  return a.kind == b.kind && same_widths(a, b) && a.tokens == b.tokens && agree(a.bias, b.bias);
}
bool but_for_bias(const MlpRow& a, const MlpRow& b) {
  return a.kind == b.kind && same_widths(a, b) && a.tokens == b.tokens;
}
bool as_far_as_known(const MlpRow& a, const MlpRow& b) {
  return a.kind == b.kind && agree(a.d_in, b.d_in) && agree(a.d_hidden, b.d_hidden) && agree(a.d_out, b.d_out) &&
         agree(a.tokens, b.tokens);
}
bool by_products(const MlpRow& a, const MlpRow& b) {
  return may_be_one_kind(a, b) && a.gated == b.gated && a.d_in && a.d_hidden && same_widths(a, b) &&
         a.tokens == b.tokens;
}

std::string_view named(const std::string& kind) { return kind.empty() ? "an unknown kind" : std::string_view(kind); }

std::string describe(const ComparedMlp& pair) {
  if (!pair.b) return "Only in A.";
  if (!pair.a) return "Only in B.";
  const MlpRow& a = *pair.a;
  const MlpRow& b = *pair.b;
  std::string out;
  const std::string before = report::launches_text(a.launches_per_instance),
                    after = report::launches_text(b.launches_per_instance);
  out += before == after ? core::format("{} launches as before", before)
                         : core::format("{} launches became {}", before, after);
  out += core::format(", {} became {}", report::time_text(a.span_us_per_instance),
                      report::time_text(b.span_us_per_instance));
  if (const auto ratio = report::speedup(pair)) out += core::format(" ({})", report::ratio_text(*ratio));
  const auto bytes_a = report::modelled_bytes(a), bytes_b = report::modelled_bytes(b);
  if (bytes_a && bytes_b && *bytes_a != *bytes_b) {
    out += core::format(", {} moved became {}", report::bytes_text(*bytes_a), report::bytes_text(*bytes_b));
  }
  if (a.kind != b.kind) out += core::format(", {} became {}", named(a.kind), named(b.kind));
  if (!agree(a.dtype, b.dtype)) out += core::format(", {} became {}", *a.dtype, *b.dtype);
  if (!agree(a.bias, b.bias)) out += *a.bias ? ", the biases went" : ", biases came";
  return report::clean(out) + ".";
}

std::vector<ComparedMlp> match(const Analysis& a, const Analysis& b) {
  std::vector<ComparedMlp> out;
  std::vector<bool> taken(b.mlps.size(), false);
  for (const MlpRow& row : a.mlps) out.push_back({row, std::nullopt, {}});
  for (const auto rule : {identical, but_for_dtype, but_for_bias, as_far_as_known, by_products}) {
    for (ComparedMlp& pair : out) {
      for (std::size_t i = 0; i < b.mlps.size() && !pair.b; ++i) {
        if (taken[i] || b.mlps[i].phase != pair.a->phase || !rule(*pair.a, b.mlps[i])) continue;
        pair.b = b.mlps[i];
        taken[i] = true;
      }
    }
  }
  for (std::size_t i = 0; i < b.mlps.size(); ++i) {
    if (!taken[i]) out.push_back({std::nullopt, b.mlps[i], {}});
  }
  for (ComparedMlp& pair : out) pair.change = describe(pair);
  return out;
}

std::vector<KernelChange> changes(const Analysis& a, const Analysis& b) {
  std::map<std::string_view, KernelChange> by_name;
  for (const NameTotal& total : a.totals) {
    KernelChange& change = by_name[total.name];
    change.count_a += total.count;
    change.us_a += total.us;
  }
  for (const NameTotal& total : b.totals) {
    KernelChange& change = by_name[total.name];
    change.count_b += total.count;
    change.us_b += total.us;
  }
  std::vector<KernelChange> out;
  for (auto& [name, change] : by_name) {
    if (change.count_a == change.count_b && change.us_a == change.us_b) continue;
    change.name = name;
    out.push_back(std::move(change));
  }
  std::stable_sort(out.begin(), out.end(), [](const KernelChange& x, const KernelChange& y) {
    return std::abs(x.us_a - x.us_b) > std::abs(y.us_a - y.us_b);
  });
  return out;
}

}  // namespace

inline namespace v0 {

Comparison compare(Analysis a, Analysis b) {
  Comparison out;
  out.mlps = match(a, b);
  out.kernels = changes(a, b);
  out.a = std::move(a);
  out.b = std::move(b);
  return out;
}

Result<Comparison> compare(const std::string& path_a, const std::string& path_b, const AnalyzeOptions& options) {
  Result<Analysis> a = analyze(path_a, options);
  if (!a) return a.status();
  Result<Analysis> b = analyze(path_b, options);
  if (!b) return b.status();
  return compare(std::move(a).value(), std::move(b).value());
}

}  // namespace v0
}  // namespace fusedmlp
