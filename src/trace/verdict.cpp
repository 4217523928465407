#include "trace/verdict.h"

#include "core/cost_model.h"
#include "core/format.h"
#include "core/gpu_portable.h"
#include "trace/traffic.h"

namespace fusedmlp::trace {
namespace {

std::string time(double us) { return us < 100 ? core::format("{:.1f} us", us) : core::format("{:.0f} us", us); }

double do_not_fuse(MlpRow& row, const std::string& why) {
  row.verdict = Verdict::do_not_fuse;
  row.reason = why;
  return 0;
}

// Why no kernel of this library would run; empty: one is made for it.
std::string without_kernel(const Case& known, std::optional<core::GpuType> type, const MlpRow& row) {
  if (std::string why = core::gpu_unsupported(*known.gpu, type); !why.empty()) return why;
  if (row.phase == Phase::backward) return "no fused kernel for the backward pass";
  if (row.experts) return "no fused kernel for mixtures of experts";
  if (!activation_known(row)) return core::format("no kernel for {}", row.kind);
  return {};
}

// Dispatch hands an MLP back to the framework where its own operations are predicted to be faster; empty: it does
// not.
std::string handed_back(const Case& known, const MlpRow& row, const MlpSpec& spec, double fused_seconds) {
  const double library = core::gpu_library_seconds(*known.gpu, spec, *row.tokens);
  if (core::fusing_pays(fused_seconds, library)) return {};
  return core::format(
      "{} has this library's portable kernel alone, predicted to take {} where a framework's own "
      "operations are predicted to take {}",
      known.gpu->name.empty() ? "this device" : known.gpu->name, time(fused_seconds * 1e6), time(library * 1e6));
}

std::string missing(const MlpRow& row) {
  std::string names;
  const auto need = [&names](bool there, const char* name) {
    if (there) return;
    names += names.empty() ? "" : ", ";
    names += name;
  };
  need(row.tokens.has_value(), "tokens");
  need(row.d_in && row.d_hidden && row.d_out, "widths");
  need(row.dtype.has_value(), "dtype");
  need(!row.experts || row.top_k, "experts a token");
  return names;
}

std::string because(const Case& known, const MlpRow& row, double predicted) {
  const double now = *known.now_us;
  switch (*row.regime) {
    case Regime::overhead:
      return core::format("the GPU waits {:.0f} % of {}; fused, its work is predicted to take {}",
                          100 * row.gap_us_per_instance / row.span_us_per_instance, time(row.span_us_per_instance),
                          time(predicted));
    case Regime::memory:
      return core::format("memory-bound at {}, of which passes over the hidden take {}; predicted fused {}",
                          time(now), time(row.breakdown.intermediate_us), time(predicted));
    case Regime::compute:
      return core::format("compute-bound at {} with a limit of {}; predicted fused {}", time(now),
                          time(*row.limit_us), time(predicted));
  }
  return {};
}

}  // namespace

double judge(const Case& known, MlpRow& row) {
  row.prediction_basis = to_string(Basis::unsupported);
  row.baseline_us = known.now_us;
  const std::optional<core::GpuType> type = row.dtype ? core::gpu_type(*row.dtype) : std::nullopt;
  if (known.already_fused) {
    if (known.gpu != nullptr && known.work && type) {
      if (const auto limit = core::gpu_limit(*known.gpu, *type, *known.work)) row.limit_us = limit->seconds * 1e6;
    }
    return do_not_fuse(row, "it is fused already");
  }
  if (known.gpu == nullptr) {
    return do_not_fuse(row, "the trace is of a CPU whose rates are not in it; `fusedmlp bench` measures them there");
  }
  if (!known.work || !type) {
    return do_not_fuse(
        row,
        core::format("nothing is predicted without {}, which the trace does not hold (record_shapes=True records it)",
                     missing(row).empty() ? "a known dtype" : missing(row)));
  }
  const std::optional<core::Prediction> limit = core::gpu_limit(*known.gpu, *type, *known.work);
  const std::string no_kernel = without_kernel(known, type, row);
  const std::optional<MlpSpec> spec = spec_of(row);
  const bool portable = no_kernel.empty() && spec && core::only_portable(*known.gpu);
  const std::optional<core::Prediction> fused =
      portable ? core::gpu_portable(*known.gpu, *spec, *row.tokens) : core::gpu_fused(*known.gpu, *type, *known.work);
  if (!limit || !fused) {
    return do_not_fuse(row, core::format("{}the rates of {} are not known; peak FLOP/s and bandwidth can be given",
                                         no_kernel.empty() ? "" : core::format("{}, and ", no_kernel),
                                         known.gpu->name.empty() ? "this device" : known.gpu->name));
  }
  row.limit_us = limit->seconds * 1e6;
  const double us = fused->seconds * 1e6;
  if (!no_kernel.empty()) {
    row.hypothetical_us = us;
    return do_not_fuse(row, no_kernel);
  }
  row.predicted_us = us;
  row.prediction_basis = to_string(fused->basis);
  if (known.cpu_only)
    return do_not_fuse(row,
                       "the trace's times are a CPU's, no baseline for a GPU: "
                       "analyze a trace of the model on a GPU");
  if (!known.now_us || !row.regime) {
    return do_not_fuse(
        row, core::format(
                 "the rates of the trace's own device are not known, so there is no baseline on {0}: analyze a trace "
                 "from a known GPU, best from {0}",
                 known.gpu->name));
  }
  if (portable) {
    if (const std::string why = handed_back(known, row, *spec, fused->seconds); !why.empty()) {
      return do_not_fuse(row, why);
    }
  }
  const double saving = *known.now_us - us;
  if (saving < kLeastSaving * *known.now_us) {
    return do_not_fuse(row,
                       core::format("fused it is predicted to take {}, now {}: a saving below {:.0f} % is within the "
                                    "model's error",
                                    time(us), time(*known.now_us), 100 * kLeastSaving));
  }
  row.verdict = Verdict::fuse;
  row.reason = core::format("{}{} (modelled, {} form)", because(known, row, us),
                            known.target ? core::format(" on {}", known.gpu->name) : "",
                            portable ? core::gpu_portable_form(*row.tokens) : core::gpu_fused_form(*known.work));
  return saving;
}

}  // namespace fusedmlp::trace
