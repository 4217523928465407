#include "report/figures.h"

#include <algorithm>

namespace fusedmlp::report {
namespace {

std::optional<double> element_bytes(const MlpRow& row) {
  if (!row.dtype) return std::nullopt;
  if (*row.dtype == "bf16" || *row.dtype == "fp16") return 2;
  if (*row.dtype == "fp32" || *row.dtype == "tf32") return 4;
  if (*row.dtype == "fp8") return 1;
  return std::nullopt;
}

// The widths of a row as numbers; valid only when all are known.
struct Widths {
  explicit Widths(const MlpRow& row)
      : known(row.tokens && row.d_in && row.d_hidden && row.d_out),
        tokens(known ? static_cast<double>(*row.tokens) : 0),
        in(known ? static_cast<double>(*row.d_in) : 0),
        hidden(known ? static_cast<double>(*row.d_hidden) : 0),
        out(known ? static_cast<double>(*row.d_out) : 0) {}

  bool known;
  double tokens, in, hidden, out;
};

}  // namespace

double now_us(const MlpRow& row) {
  if (row.baseline_us) return *row.baseline_us;
  return row.regime == Regime::overhead ? row.span_us_per_instance : row.us_per_instance;
}

bool on_gpu(const Analysis& analysis) {
  return analysis.device || analysis.kernels + analysis.memcpys + analysis.memsets > 0;
}

double total_us(const MlpRow& row) { return static_cast<double>(row.instances) * row.us_per_instance; }

std::optional<double> saving_us(const Analysis& analysis, const MlpRow& row) {
  if (!row.predicted_us || analysis.used.target) return std::nullopt;
  return static_cast<double>(row.instances) * (now_us(row) - *row.predicted_us);
}

std::optional<double> flops(const MlpRow& row) {
  const Widths w(row);
  if (!w.known || (row.experts && !row.top_k)) return std::nullopt;
  const double first = w.in * w.hidden * (row.gated ? 2 : 1);
  const double visits = row.top_k ? static_cast<double>(*row.top_k) : 1;
  return 2 * w.tokens * visits * (first + w.hidden * w.out) * (row.phase == Phase::backward ? 2 : 1);
}

std::optional<double> least_bytes(const MlpRow& row) {
  const Widths w(row);
  const std::optional<double> size = element_bytes(row);
  if (!w.known || !size || row.phase == Phase::backward || (row.experts && !row.top_k)) return std::nullopt;
  const double weights = w.in * w.hidden * (row.gated ? 2 : 1) + w.hidden * w.out;
  // A batch of few tokens touches only some of the experts.
  const double experts =
      row.experts ? std::min(static_cast<double>(*row.experts), w.tokens * static_cast<double>(*row.top_k)) : 1;
  return *size * (experts * weights + w.tokens * (w.in + w.out));
}

std::optional<double> modelled_bytes(const MlpRow& row) {
  const Widths w(row);
  const std::optional<double> size = element_bytes(row);
  if (!w.known || !size || row.phase == Phase::backward || row.experts) return std::nullopt;
  const bool separate = std::any_of(row.kernels.begin(), row.kernels.end(),
                                    [](const MlpKernel& kernel) { return kernel.role == Role::multiply; });
  const double hidden = w.tokens * w.hidden;
  double elements = 0;
  bool product = false;
  for (const MlpKernel& kernel : row.kernels) {
    switch (kernel.role) {
      case Role::gate:
      case Role::up:
        elements += w.tokens * w.in + w.in * w.hidden + hidden;
        product = true;
        break;
      case Role::gate_up:
        elements += w.tokens * w.in + 2 * w.in * w.hidden + 2 * hidden;
        product = true;
        break;
      case Role::activation:  // on its own, or with the product of gate and up in it
        elements += (row.gated && !separate ? 3 : 2) * hidden;
        break;
      case Role::multiply: elements += 3 * hidden; break;
      case Role::down:
        elements += hidden + w.hidden * w.out + w.tokens * w.out;
        product = true;
        break;
      case Role::bias:
      case Role::cast:
      case Role::reduce:
      case Role::routing:
      case Role::other: break;  // of unknown extent, and small
    }
  }
  if (!product) return least_bytes(row);  // one kernel does it all
  return *size * elements;
}

std::optional<double> speedup(const ComparedMlp& pair) {
  if (!pair.a || !pair.b || !(pair.a->span_us_per_instance > 0) || !(pair.b->span_us_per_instance > 0)) {
    return std::nullopt;
  }
  return pair.a->span_us_per_instance / pair.b->span_us_per_instance;
}

std::vector<Slice> slices(const Breakdown& b) {
  return {{"gemm", "matrix products", b.gemm_us, false},
          {"intermediate", "intermediates", b.intermediate_us, false},
          {"other", "other kernels", b.other_us, false},
          {"launch", "waiting for launches", b.launch_gap_us, true},
          {"sync", "waiting for a sync", b.sync_gap_us, true},
          {"warmup", "first-call warm-up", b.warmup_gap_us, true},
          {"idle", "other gaps", b.other_gap_us, true}};
}

double sum_us(const Breakdown& breakdown) {
  double sum = 0;
  for (const Slice& slice : slices(breakdown)) sum += slice.us;
  return sum;
}

}  // namespace fusedmlp::report
