#include <algorithm>

#include "core/format.h"
#include "report/figures.h"
#include "report/wording.h"

namespace fusedmlp::report {
namespace {

// Spans closer than this are called equal: traces of the same program differ by as much.
constexpr double kTie = 0.02;

// Spans of the matched rows, both as often as a runs them; traces may hold different numbers of steps.
struct Matched {
  double a_us = 0, b_us = 0;
  double a_launches = 0, b_launches = 0;
  std::int64_t rows = 0;
};

Matched matched(const Comparison& comparison) {
  Matched out;
  for (const ComparedMlp& pair : comparison.mlps) {
    if (!pair.a || !pair.b) continue;
    const auto times = static_cast<double>(pair.a->instances);
    out.a_us += times * pair.a->span_us_per_instance;
    out.b_us += times * pair.b->span_us_per_instance;
    out.a_launches += times * pair.a->launches_per_instance;
    out.b_launches += times * pair.b->launches_per_instance;
    ++out.rows;
  }
  return out;
}

// The trace that alone holds a phase of an MLP whose other phase is in both; null: no such row.
const ComparedMlp* half_compared(const Comparison& comparison) {
  const auto found = std::find_if(comparison.mlps.begin(), comparison.mlps.end(), [&](const ComparedMlp& lone) {
    if (lone.a && lone.b) return false;
    const MlpRow& row = lone.a ? *lone.a : *lone.b;
    return std::any_of(comparison.mlps.begin(), comparison.mlps.end(), [&](const ComparedMlp& pair) {
      if (!pair.a || !pair.b) return false;
      const MlpRow& other = lone.a ? *pair.a : *pair.b;
      return other.phase != row.phase && other.kind == row.kind && other.tokens == row.tokens &&
             other.d_in == row.d_in && other.d_hidden == row.d_hidden && other.d_out == row.d_out;
    });
  });
  return found == comparison.mlps.end() ? nullptr : &*found;
}

std::string side(const Analysis& analysis) {
  std::string out = analysis.device ? clean(*analysis.device) : on_gpu(analysis) ? std::string(kUnnamedGpu) : "CPU";
  if (analysis.steps) out += core::format(", {}", plural(*analysis.steps, "profiler step"));
  if (on_gpu(analysis)) {
    out += core::format(", {}, GPU busy {} of {}", plural(analysis.kernels, "kernel"),
                        time_text(analysis.gpu_busy_us), time_text(analysis.gpu_span_us));
  }
  return out;
}

}  // namespace

std::string ratio_text(double ratio) {
  if (ratio >= 1 + kTie) return core::format("{:.2f}x faster", ratio);
  if (ratio > 1 - kTie) return "no difference to speak of";
  return core::format("{:.2f}x slower", 1 / ratio);
}

std::string headline(const Comparison& comparison) {
  const Matched m = matched(comparison);
  if (comparison.a.mlps.empty() && comparison.b.mlps.empty()) return "No MLP was found in either trace.";
  if (m.rows == 0) return "No MLP of one trace is in the other.";
  if (!(m.a_us > 0) || !(m.b_us > 0)) return "The MLPs of both traces match.";
  if (const ComparedMlp* const half = half_compared(comparison)) {
    return core::format(
        "What matched took {} and now takes {}, but the {} pass of an MLP is in {} alone: how the MLPs "
        "compare as a whole cannot be told.",
        time_text(m.a_us), time_text(m.b_us), to_string(half->a ? half->a->phase : half->b->phase),
        half->a ? "A" : "B");
  }
  return core::format("The MLPs took {} and now take {}: {}.", time_text(m.a_us), time_text(m.b_us),
                      ratio_text(m.a_us / m.b_us));
}

std::vector<std::string> summary(const Comparison& comparison) {
  std::vector<std::string> out;
  out.push_back(core::format("A: {} ({}).", clean(comparison.a.path), side(comparison.a)));
  out.push_back(core::format("B: {} ({}).", clean(comparison.b.path), side(comparison.b)));
  const Matched m = matched(comparison);
  const auto only = [&](bool in_a) {
    return std::count_if(comparison.mlps.begin(), comparison.mlps.end(),
                         [&](const ComparedMlp& pair) { return in_a ? pair.a && !pair.b : pair.b && !pair.a; });
  };
  if (m.rows > 0) {
    out.push_back(core::format("{} of MLP matched; for the runs in A, {:.0f} launches became {:.0f}.",
                               plural(m.rows, "kind"), m.a_launches, m.b_launches));
  }
  if (const auto count = only(true)) out.push_back(core::format("{} of MLP only in A.", plural(count, "kind")));
  if (const auto count = only(false)) out.push_back(core::format("{} of MLP only in B.", plural(count, "kind")));
  const bool a_on_gpu = on_gpu(comparison.a), b_on_gpu = on_gpu(comparison.b);
  if (a_on_gpu && b_on_gpu && (!comparison.a.device || !comparison.b.device)) {
    out.push_back(
        "Whether the traces come from one kind of device is not in them: times may say as much about that as "
        "about the change.");
  } else if (comparison.a.device != comparison.b.device || a_on_gpu != b_on_gpu) {
    out.push_back("The traces come from different devices: times say as much about those as about the change.");
  }
  return out;
}

}  // namespace fusedmlp::report
