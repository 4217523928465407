// What a row of equal MLPs is limited by, where its time goes, what fusing would take, and whether to fuse.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "fusedmlp/analysis.h"
#include "trace/join.h"
#include "trace/match.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

// For one trace; it refers to the trace and the join, which must outlive it.
class Assessor {
 public:
  // A target that the table does not hold is a Status on argument "target"; peaks that are negative or not finite
  // are one on "peak_flops" or "peak_bandwidth".
  static Result<Assessor> create(const Trace& trace, const Joined& joined, const AnalyzeOptions& options);

  Assessor(Assessor&&) noexcept;
  Assessor& operator=(Assessor&&) noexcept;
  ~Assessor();

  // The device that predictions are for: the target, else the one of the trace's first device event.
  const AnalyzedDevice& used() const;

  // Wants the row's identity (kind to phase, experts, top_k), `instances` and the four means per instance, and all
  // its instances. Fills breakdown, regime, baseline_us, limit_us, predicted_us, hypothetical_us, prediction_basis,
  // verdict and reason. Returns what fusing saves an instance, in microseconds; 0 unless the verdict is to fuse.
  double assess(const std::vector<const Instance*>& instances, MlpRow& row) const;

  // Share of an SM's warps that blocks of this kernel can occupy at once, 0 to 1, from its registers, shared memory
  // and block size and the device's properties (the profiler's own figure is 0 above 48 KiB of shared memory).
  // Empty where the trace lacks one of them.
  std::optional<double> occupancy(const Event& kernel) const;

 private:
  struct State;
  explicit Assessor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fusedmlp::trace
