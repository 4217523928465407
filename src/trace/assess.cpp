#include "trace/assess.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/format.h"
#include "core/text.h"
#include "trace/breakdown.h"
#include "trace/gpu.h"
#include "trace/kernel_name.h"
#include "trace/occupancy.h"
#include "trace/traffic.h"
#include "trace/verdict.h"

namespace fusedmlp::trace {

struct Assessor::State {
  State(const Trace& trace_in, const Joined& joined) : trace(trace_in), parts(trace_in, joined) {}

  const Trace& trace;
  SpanParts parts;
  std::map<std::int64_t, core::GpuModel> gpus;  // of the trace, by device id
  std::optional<core::GpuModel> target;
  bool cpu_only = false;
  AnalyzedDevice used;

  // The device of a device event: the trace's first one where the file does not say.
  const core::GpuModel* device_of(const Event& event) const {
    const auto found = gpus.find(event.args == kNone ? -1 : trace.device_args[event.args].device);
    return found != gpus.end() ? &found->second : gpus.empty() ? nullptr : &gpus.begin()->second;
  }

  // The device that ran an instance; null: a CPU.
  const core::GpuModel* traced(const Instance& instance) const {
    for (const Part& part : instance.parts) {
      const Event& event = trace.events[part.event];
      if (event.category == Category::kernel) return device_of(event);
    }
    return nullptr;
  }

  bool already_fused(const Instance& instance) const {
    return std::any_of(instance.parts.begin(), instance.parts.end(), [this](const Part& part) {
      return decode(trace.text(trace.events[part.event].name)).family == Family::fusedmlp;
    });
  }
};

namespace {

Status check_peak(const char* name, double value) {
  if (std::isfinite(value) && value >= 0) return {};
  return Status(StatusCode::invalid_argument, name,
                core::format("got {}, accepted: a finite number > 0 per second, or 0 for the table's", value));
}

// Seconds of the kernels that ran, by the roofline: the larger of arithmetic and traffic.
std::optional<core::Prediction> roofline(const core::GpuModel& gpu, const MlpRow& row, const Instance& instance) {
  const std::optional<core::GpuWork> work = traced_work(row, instance);
  const std::optional<core::GpuType> type = row.dtype ? core::gpu_type(*row.dtype) : std::nullopt;
  if (!work || !type) return {};
  return core::gpu_limit(gpu, *type, *work);
}

// Overhead where gaps take more of the span than kernels do; else what the roofline says.
std::optional<Regime> regime_of(double gap_us, double kernels_us, const std::optional<core::Prediction>& roof) {
  if (gap_us > kernels_us) return Regime::overhead;
  if (!roof) return {};
  return roof->bound == core::Bound::compute ? Regime::compute : Regime::memory;
}

}  // namespace

Assessor::Assessor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Assessor::Assessor(Assessor&&) noexcept = default;
Assessor& Assessor::operator=(Assessor&&) noexcept = default;
Assessor::~Assessor() = default;

Result<Assessor> Assessor::create(const Trace& trace, const Joined& joined, const AnalyzeOptions& options) {
  if (Status bad = check_peak("peak_flops", options.peak_flops); !bad.ok()) return bad;
  if (Status bad = check_peak("peak_bandwidth", options.peak_bandwidth); !bad.ok()) return bad;
  auto state = std::make_unique<State>(trace, joined);
  state->cpu_only = joined.links.empty();
  if (!options.target.empty()) {
    state->target = core::find_gpu(options.target);
    if (!state->target) {
      return Status(StatusCode::invalid_argument, "target",
                    core::format("got {}, accepted: {}", core::quoted(options.target), core::gpu_names()));
    }
    set_peaks(*state->target, options.peak_flops, options.peak_bandwidth);
  }
  if (!state->cpu_only) {
    for (const DeviceProperties& device : trace.devices) {
      core::GpuModel gpu = gpu_of(device);
      if (!state->target) set_peaks(gpu, options.peak_flops, options.peak_bandwidth);
      state->gpus.emplace(device.id, std::move(gpu));
    }
    if (state->gpus.empty()) {
      core::GpuModel gpu = gpu_of({});
      if (!state->target) set_peaks(gpu, options.peak_flops, options.peak_bandwidth);
      state->gpus.emplace(-1, std::move(gpu));
    }
  }
  if (state->target) {
    state->used = described(*state->target);
    state->used.target = true;
  } else if (!state->gpus.empty()) {
    state->used = described(*state->device_of(trace.events[joined.links.front().event]));
  } else {
    state->used.basis = "unknown";
  }
  return Assessor(std::move(state));
}

const AnalyzedDevice& Assessor::used() const { return state_->used; }

double Assessor::assess(const std::vector<const Instance*>& instances, MlpRow& row) const {
  if (instances.empty()) return 0;
  row.breakdown = state_->parts.breakdown(instances);
  const Instance& first = *instances.front();
  const core::GpuModel* const traced = state_->traced(first);
  Case known;
  known.cpu_only = state_->cpu_only;
  known.target = state_->target.has_value();
  known.gpu = known.target ? &*state_->target : traced;
  known.work = fused_work(row);
  known.already_fused = state_->already_fused(first);
  if (traced != nullptr) {
    const std::optional<core::Prediction> here = roofline(*traced, row, first);
    double kernels_us = row.us_per_instance;
    std::optional<core::Prediction> roof = here;
    bool scaled = true;
    if (known.target) {
      // Kernels as far from the roofline there as here; the host, and with it the gaps, stays the same.
      roof = roofline(*known.gpu, row, first);
      scaled = here && roof;
      if (scaled) kernels_us *= roof->seconds / here->seconds;
    }
    row.regime = regime_of(row.gap_us_per_instance, kernels_us, roof);
    if (scaled && row.regime) {
      known.now_us = !known.target && row.regime == Regime::overhead ? row.span_us_per_instance
                     : row.regime == Regime::overhead                ? kernels_us + row.gap_us_per_instance
                                                                     : kernels_us;
    }
  }
  return judge(known, row);
}

std::optional<double> Assessor::occupancy(const Event& kernel) const {
  if (kernel.category != Category::kernel || kernel.args == kNone) return {};
  const DeviceArgs& args = state_->trace.device_args[kernel.args];
  for (const DeviceProperties& device : state_->trace.devices) {
    if (device.id == args.device) return trace::occupancy(args, device);
  }
  return {};
}

}  // namespace fusedmlp::trace
