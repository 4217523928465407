#include "core/measure_entries.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/cost_model.h"
#include "core/format.h"

namespace fusedmlp::core {
namespace {

constexpr double kLeastSample = 50e-6;  // seconds

class CpuTimer final : public EntryTimer {
 public:
  CpuTimer(const MlpSpec& spec, const DeviceInfo& device, Executor& executor, const MeasureOptions& options);
  Query query(std::int64_t tokens) const override;
  Result<std::vector<EntryTimes>> run(std::int64_t tokens, const std::vector<Candidate>& list) override;

 private:
  struct Copy {
    HostWeights weights;
    AlignedBuffer packed;
  };
  struct Contender {
    EntryTimes times;
    AlignedBuffer workspace;
    double spent = 0;
    std::size_t next_copy = 0;
  };

  Status enter(const Query& query, Contender& contender);
  Result<double> time(Contender& contender, const RunArgs& args, int runs);

  MlpSpec spec_;
  const DeviceInfo& device_;
  Executor& executor_;
  MeasureOptions options_;
  std::vector<Copy> copies_;
};

CpuTimer::CpuTimer(const MlpSpec& spec, const DeviceInfo& device, Executor& executor, const MeasureOptions& options)
    : spec_(spec), device_(device), executor_(executor), options_(options) {
  copies_.push_back({HostWeights(spec, Data::normal, 1), {}});
  if (!options.cold) return;
  // Twice the last-level cache of weights between two uses of the same copy.
  const double last_level = static_cast<double>(std::max(device.l3_bytes, device.l2_bytes));
  const auto count = static_cast<std::size_t>(std::ceil(2 * last_level / weight_bytes(spec))) + 1;
  while (copies_.size() < count) copies_.push_back({copies_.front().weights.duplicate(), {}});
}

Query CpuTimer::query(std::int64_t tokens) const {
  return {spec_, tokens, device_, std::max(1, executor_.concurrency()), options_.packed};
}

Result<std::vector<EntryTimes>> CpuTimer::run(std::int64_t tokens, const std::vector<Candidate>& list) {
  const Query asked = query(tokens);
  const AlignedBuffer x = make_input(spec_, tokens, Data::normal, 1);
  const AlignedBuffer y(static_cast<std::size_t>(tokens * spec_.d_out) * size_of(spec_.dtype));
  RunArgs args;
  args.x = x.data();
  args.ldx = spec_.d_in;
  args.y = y.data();
  args.ldy = spec_.d_out;
  args.tokens = tokens;
  args.executor = &executor_;

  std::vector<Contender> all;
  for (EntryTimes& times : contenders(list, DeviceType::cpu, options_)) {
    Contender& c = all.emplace_back();
    c.times = std::move(times);
    if (!c.times.skipped.empty()) continue;
    if (Status status = enter(asked, c); !status) return status;
  }
  for (Contender& c : all) {
    if (!c.times.skipped.empty()) continue;
    Result<double> once = time(c, args, 1);
    if (once && *once < slow_run(DeviceType::cpu)) once = time(c, args, 1);
    if (!once) return once.status();
    c.times.runs_a_sample = static_cast<int>(std::clamp(std::ceil(kLeastSample / std::max(*once, 1e-9)), 1.0, 1e4));
  }
  for (bool more = true; more;) {
    more = false;
    for (Contender& c : all) {
      if (sampled(c.times, c.spent, options_)) continue;
      const Result<double> seconds = time(c, args, c.times.runs_a_sample);
      if (!seconds) return seconds.status();
      c.times.samples.push_back(*seconds / c.times.runs_a_sample);
      c.spent += *seconds;
      more = true;
    }
  }
  std::vector<EntryTimes> out;
  out.reserve(all.size());
  for (Contender& c : all) out.push_back(std::move(c.times));
  return out;
}

// Memory for runs of this entry.
Status CpuTimer::enter(const Query& asked, Contender& c) {
  const Candidate& candidate = c.times.candidate;
  c.workspace = AlignedBuffer(candidate.entry->workspace_bytes(asked));
  if (candidate.entry->layout == nullptr || !options_.packed) return {};
  for (Copy& copy : copies_) {
    if (copy.packed.size() != 0) continue;
    Result<AlignedBuffer> packed = pack_weights(*candidate.entry, spec_, copy.weights.views(), device_, executor_);
    if (!packed) return packed.status();
    copy.packed = std::move(packed).value();
  }
  return {};
}

// Seconds of `runs` runs.
Result<double> CpuTimer::time(Contender& c, const RunArgs& args, int runs) {
  using Clock = std::chrono::steady_clock;
  RunArgs own = args;
  own.workspace = c.workspace.data();
  own.workspace_bytes = c.workspace.size();
  const KernelEntry& entry = *c.times.candidate.entry;
  const auto begin = Clock::now();
  for (int i = 0; i < runs; ++i) {
    const Copy& copy = copies_[c.next_copy];
    c.next_copy = (c.next_copy + 1) % copies_.size();
    const void* packed = entry.layout != nullptr ? copy.packed.data() : nullptr;
    if (Status status = entry.run({spec_, copy.weights.views(), packed}, own, device_); !status) return status;
  }
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

double EntryTimes::median() const {
  std::vector<double> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double EntryTimes::best() const { return *std::min_element(samples.begin(), samples.end()); }

std::vector<EntryTimes> contenders(const std::vector<Candidate>& list, DeviceType type,
                                   const MeasureOptions& options) {
  const std::vector<std::string>& wanted = options.kernels;
  std::vector<EntryTimes> out;
  for (const Candidate& candidate : list) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), candidate.entry->name) == wanted.end()) continue;
    EntryTimes& times = out.emplace_back();
    times.candidate = candidate;
    times.skipped = candidate.unsupported;
    if (!times.skipped.empty() || options.all || candidate.chosen || !wanted.empty() ||
        candidate.prediction.seconds <= slow_run(type)) {
      continue;
    }
    times.too_slow = true;
    times.skipped = core::format("left out: predicted {:.2f} s a run", candidate.prediction.seconds);
  }
  return out;
}

// Slow entries stop at three samples, so that one of them does not decide how long the whole takes.
bool sampled(const EntryTimes& times, double spent, const MeasureOptions& options) {
  if (!times.skipped.empty()) return true;
  const auto count = static_cast<int>(times.samples.size());
  if (count < std::min(3, options.repeats)) return false;
  return (count >= options.repeats && spent >= options.min_time) || spent >= std::max(20 * options.min_time, 1.0);
}

Result<std::unique_ptr<EntryTimer>> make_timer(const MlpSpec& spec, const DeviceInfo& device, Executor& executor,
                                               const MeasureOptions& options) {
  if (device.device.type == DeviceType::cuda) return make_cuda_timer(spec, device, options);
  return std::unique_ptr<EntryTimer>(std::make_unique<CpuTimer>(spec, device, executor, options));
}

}  // namespace fusedmlp::core
