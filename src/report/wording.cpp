#include "report/wording.h"

#include <algorithm>

#include "core/format.h"
#include "report/figures.h"
#include "trace/kernel_name.h"

namespace fusedmlp::report {
namespace {

// Shares of the MLPs' time from which a cause is worth a sentence.
constexpr double kLaunchShare = 0.10;
constexpr double kSyncShare = 0.05;
constexpr double kWarmupShare = 0.05;
constexpr double kIntermediateShare = 0.10;
constexpr double kSlowProducts = 0.5;  // of peak arithmetic, where rows are compute-bound
constexpr double kUnsure = 0.5;        // confidence below which a row is questioned
constexpr double kIdleShare = 0.25;    // of the span in which no device event runs

std::string width(const std::optional<std::int64_t>& value) { return value ? core::format("{}", *value) : "?"; }

std::int64_t instances(const Analysis& analysis) {
  std::int64_t sum = 0;
  for (const MlpRow& row : analysis.mlps) sum += row.instances;
  return sum;
}

std::int64_t rows_to_fuse(const Analysis& analysis) {
  return std::count_if(analysis.mlps.begin(), analysis.mlps.end(),
                       [](const MlpRow& row) { return row.verdict == Verdict::fuse; });
}

std::int64_t rows_called(const Analysis& analysis, Call call) {
  return std::count_if(analysis.mlps.begin(), analysis.mlps.end(),
                       [&](const MlpRow& row) { return call_of(row) == call; });
}

std::string of(double part, double all, std::string_view what) {
  const std::string share = share_text(part, all);
  return share.empty() ? "" : core::format(", {} of {}", share, what);
}

Advice about_row(const Analysis& analysis, std::size_t index) {
  const MlpRow& row = analysis.mlps[index];
  Advice out;
  out.rows = {index};
  const std::optional<double> saving = saving_us(analysis, row);
  if (row.verdict == Verdict::fuse) {
    out.title = core::format("Fuse {}", number_text(index));
    if (saving && *saving > 0) {
      out.text = core::format("Saves about {} of {} each time", time_text(now_us(row) - *row.predicted_us),
                              time_text(now_us(row)));
      if (row.instances > 1)
        out.text += core::format(", {} over {} times", time_text(*saving), count_text(row.instances));
      if (!row.prediction_basis.empty()) out.text += core::format(" ({})", clean(row.prediction_basis));
      out.text += ". ";
    }
  } else {
    const Call call = call_of(row);
    out.title = core::format("{} {}",
                             call == Call::leave           ? "Leave"
                             : call == Call::fused_already ? "Fused already,"
                             : call == Call::uncompared    ? "Cannot be told,"
                                                           : "Not predicted,",
                             number_text(index));
  }
  out.text +=
      row.reason.empty() && out.text.empty() ? "Nothing is known about fusing it." : sentence(clean(row.reason));
  if (row.hypothetical_us) {
    out.text += analysis.used.target
                    ? core::format(" With a kernel for {} it would take about {} there.", clean(analysis.used.name),
                                   time_text(*row.hypothetical_us))
                    : core::format(" With a kernel for this device it would take about {} instead of {}.",
                                   time_text(*row.hypothetical_us), time_text(now_us(row)));
  }
  if (row.confidence < kUnsure) {
    out.text += core::format(" That these kernels are one MLP is not certain (confidence {:.1f}).", row.confidence);
  }
  return out;
}

// Sum over rows of arithmetic at the known peak, and of the time that products took for it.
struct Products {
  double ideal_us = 0;
  double us = 0;
};

Products compute_bound_products(const Analysis& analysis) {
  Products out;
  if (!analysis.used.peak_flops) return out;
  for (const MlpRow& row : analysis.mlps) {
    const std::optional<double> work = flops(row);
    const bool peak_is_its_own = row.dtype && (*row.dtype == "bf16" || *row.dtype == "fp16");
    if (!work || row.regime != Regime::compute || !peak_is_its_own || row.breakdown.gemm_us <= 0) continue;
    out.ideal_us += static_cast<double>(row.instances) * *work / *analysis.used.peak_flops * 1e6;
    out.us += static_cast<double>(row.instances) * row.breakdown.gemm_us;
  }
  return out;
}

void about_all(const Analysis& analysis, std::vector<Advice>& out) {
  const Breakdown& b = analysis.breakdown;
  const double all = sum_us(b);
  const auto add = [&](std::string title, std::string text) {
    out.push_back({{}, std::move(title), std::move(text)});
  };
  const auto large = [&](double us, double share) { return all > 0 && us >= share * all; };
  if (large(b.launch_gap_us, kLaunchShare)) {
    add("Launches",
        core::format("Within its MLPs the GPU waits {}{} for the host to launch the next kernel. Fewer "
                     "kernels, or a CUDA graph (torch.compile with mode=\"reduce-overhead\"), remove that.",
                     time_text(b.launch_gap_us), of(b.launch_gap_us, all, "their time")));
  }
  if (large(b.sync_gap_us, kSyncShare)) {
    add("Synchronisation", core::format("Waiting for the host to synchronise takes {}{}: look for .item(), .cpu(), "
                                        "print or torch.cuda.synchronize() inside the loop.",
                                        time_text(b.sync_gap_us), of(b.sync_gap_us, all, "the MLPs' time")));
  }
  if (large(b.warmup_gap_us, kWarmupShare)) {
    add("Warm-up", core::format("{}{} belong to first calls (module load, allocation, the profiler's own start); a "
                                "running model does not pay that. Run a few steps before the traced ones.",
                                time_text(b.warmup_gap_us), of(b.warmup_gap_us, all, "the MLPs' time")));
  }
  if (large(b.intermediate_us, kIntermediateShare)) {
    add("Intermediates", core::format("Kernels that only read and write the hidden activations take {}{}. A fused "
                                      "kernel keeps the hidden on the chip.",
                                      time_text(b.intermediate_us), of(b.intermediate_us, all, "the MLPs' time")));
  }
  const Products products = compute_bound_products(analysis);
  if (products.us > 0 && products.ideal_us < kSlowProducts * products.us) {
    add("Matrix products", core::format("Those of the compute-bound MLPs reach {} of the device's peak arithmetic.",
                                        share_text(products.ideal_us, products.us)));
  }
  const double idle = analysis.gpu_span_us - analysis.gpu_busy_us;
  if (on_gpu(analysis) && analysis.gpu_span_us > 0 && idle >= kIdleShare * analysis.gpu_span_us) {
    add("Idle GPU", core::format("Nothing runs on the GPU for {}{}.", time_text(idle),
                                 of(idle, analysis.gpu_span_us, "the traced span")));
  }
  const bool shapeless = std::any_of(analysis.mlps.begin(), analysis.mlps.end(),
                                     [](const MlpRow& row) { return !row.tokens || !row.d_in || !row.d_hidden; });
  if (shapeless) {
    add("Shapes", "Some widths or token counts are not in this trace. Profile with record_shapes=True to have them.");
  }
}

}  // namespace

std::string sentence(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  if (!text.empty() && text.back() != '.' && text.back() != '!' && text.back() != '?') text += '.';
  return text;
}

std::string widths_text(const MlpRow& row) {
  if (!row.d_in && !row.d_hidden && !row.d_out) return "unknown widths";
  std::string out = core::format("{}x{}", width(row.d_in), width(row.d_hidden));
  if (row.d_out && row.d_out != row.d_in) out += core::format("->{}", *row.d_out);
  return out;
}

std::string name_text(const MlpRow& row) {
  std::string out = core::format("{} {}", clean(row.kind), widths_text(row));
  if (row.dtype) out += core::format(" {}", clean(*row.dtype));
  if (row.bias.value_or(false)) out += ", bias";
  if (row.phase == Phase::backward) out += ", backward";
  if (row.experts) {
    out += core::format(", {} experts", count_text(*row.experts));
    if (row.top_k) out += core::format(" ({} a token)", *row.top_k);
  }
  return out;
}

std::string number_text(std::size_t index) { return core::format("#{}", index + 1); }

Call call_of(const MlpRow& row) {
  if (row.verdict == Verdict::fuse) return Call::fuse;
  const bool own = std::any_of(row.kernels.begin(), row.kernels.end(), [](const MlpKernel& kernel) {
    return trace::decode(kernel.name).family == trace::Family::fusedmlp;
  });
  if (own) return Call::fused_already;
  if (row.hypothetical_us) return Call::leave;
  if (!row.predicted_us) return Call::unknown;
  return row.baseline_us ? Call::leave : Call::uncompared;
}

std::string device_text(const AnalyzedDevice& used) {
  return used.name.empty() ? std::string(kUnnamedGpu) : clean(used.name);
}

bool told(const Analysis& analysis) {
  const auto fused = rows_called(analysis, Call::fused_already);
  return rows_called(analysis, Call::fuse) + rows_called(analysis, Call::leave) > 0 ||
         fused == static_cast<std::int64_t>(analysis.mlps.size());
}

std::string headline(const Analysis& analysis) {
  if (analysis.mlps.empty()) return "No MLP was found in this trace.";
  const bool one = analysis.mlps.size() == 1;
  const std::string where = analysis.used.target ? core::format("On {}, f", clean(analysis.used.name)) : "F";
  const std::int64_t count = rows_to_fuse(analysis);
  if (count > 0 && analysis.predicted_saving_us > 0) {
    // The trace's span says nothing about another device.
    const double all = analysis.used.target ? 0 : analysis.gpu_span_us;
    return core::format(
        "{}using {} would save about {}{}.", where, one ? "the MLP" : plural(count, "kind of MLP", "kinds of MLP"),
        time_text(analysis.predicted_saving_us), all > 0 ? core::format(" of {}", time_text(all)) : "");
  }
  const auto any = [&](auto&& has) { return std::any_of(analysis.mlps.begin(), analysis.mlps.end(), has); };
  if (std::all_of(analysis.mlps.begin(), analysis.mlps.end(),
                  [](const MlpRow& row) { return call_of(row) == Call::fused_already; })) {
    return one ? "The MLP of this trace is fused already." : "The MLPs of this trace are fused already.";
  }
  if (!any([](const MlpRow& row) { return row.predicted_us.has_value(); })) {
    if (any([](const MlpRow& row) { return row.hypothetical_us.has_value(); })) {
      return core::format("Do not fuse: there is no kernel for {} on {}.", one ? "this MLP" : "these MLPs",
                          analysis.used.name.empty() ? "this device" : clean(analysis.used.name));
    }
  }
  if (!told(analysis)) {
    return core::format("What fusing would save{} cannot be told from this trace.",
                        analysis.used.target ? " on " + clean(analysis.used.name) : "");
  }
  if (rows_called(analysis, Call::uncompared) + rows_called(analysis, Call::unknown) > 0) {
    return core::format("{}using {} would not pay; of the others it cannot be told.", where,
                        plural(rows_called(analysis, Call::leave), "kind of MLP", "kinds of MLP"));
  }
  return core::format("{}using {} would not pay.", where, one ? "the MLP of this trace" : "the MLPs of this trace");
}

std::vector<std::string> summary(const Analysis& analysis) {
  std::vector<std::string> out;
  std::string what;
  if (on_gpu(analysis)) {
    what = plural(analysis.kernels, "kernel");
    what = analysis.device ? core::format("{}: {}", clean(*analysis.device), what)
                           : core::format("{} on {}", what, kUnnamedGpu);
    if (analysis.memcpys > 0) what += core::format(", {}", plural(analysis.memcpys, "copy", "copies"));
    if (analysis.memsets > 0) what += core::format(", {}", plural(analysis.memsets, "memset"));
  } else {
    what = "No GPU kernel is in this trace: the times of operations on the CPU stand in for them";
  }
  if (analysis.steps) what += core::format(", over {}", plural(*analysis.steps, "profiler step"));
  out.push_back(what + ".");
  if (on_gpu(analysis) && analysis.gpu_span_us > 0) {
    out.push_back(core::format("The GPU was busy for {} of {} ({}).", time_text(analysis.gpu_busy_us),
                               time_text(analysis.gpu_span_us),
                               share_text(analysis.gpu_busy_us, analysis.gpu_span_us)));
  }
  if (analysis.mlps.empty()) {
    out.push_back("No MLP was found: nothing in it looks like Linear, activation, Linear.");
    return out;
  }
  out.push_back(core::format("{} of {} ran {} and took {}{}.",
                             plural(static_cast<std::int64_t>(analysis.mlps.size()), "kind"), "MLP",
                             instances(analysis) == 1 ? "once" : plural(instances(analysis), "time"),
                             time_text(analysis.mlp_us), of(analysis.mlp_us, analysis.gpu_busy_us, "the busy time")));
  const double all = sum_us(analysis.breakdown);
  if (all > 0) {
    std::vector<Slice> parts = slices(analysis.breakdown);
    std::stable_sort(parts.begin(), parts.end(), [](const Slice& a, const Slice& b) { return a.us > b.us; });
    std::string where;
    for (const Slice& part : parts) {
      if (part.us < 0.02 * all) continue;
      where += core::format("{}{} {}", where.empty() ? "" : ", ", part.label, share_text(part.us, all));
    }
    out.push_back(core::format("Where their time goes: {}.", where));
  }
  return out;
}

std::vector<Advice> advice(const Analysis& analysis) {
  std::vector<Advice> out;
  for (std::size_t i = 0; i < analysis.mlps.size(); ++i) {
    Advice item = about_row(analysis, i);
    const auto same =
        std::find_if(out.begin(), out.end(), [&](const Advice& other) { return other.text == item.text; });
    if (same == out.end()) {
      out.push_back(std::move(item));
    } else {
      same->rows.push_back(i);
      same->title += ", " + number_text(i);
    }
  }
  about_all(analysis, out);
  return out;
}

}  // namespace fusedmlp::report
