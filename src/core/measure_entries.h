// Times of a device's registry entries on one problem: interleaved, so that what else the machine does meets all of
// them alike, and medians.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/host_problem.h"

namespace fusedmlp::core {

struct MeasureOptions {
  std::vector<std::string> kernels;  // these alone; empty: every entry
  int repeats = 15;                  // samples of each, at least
  double min_time = 0.1;             // seconds of each, at least
  bool packed = true;                // a packed copy of the weights for the entries that read one
  bool cold = false;                 // take copies of the weights in turn, so that none is found in a cache; on a
                                     // GPU always so
  int most_copies = 0;               // of the weights, on a GPU; 0: as many as that takes
  bool all = false;                  // also entries predicted to take more than slow_run()
};

// Predicted seconds a run above which an entry that is not dispatch's choice is left out.
constexpr double slow_run(DeviceType type) { return type == DeviceType::cpu ? 0.5 : 0.02; }

struct EntryTimes {
  Candidate candidate;
  std::string skipped;          // why it was not timed; empty: it was
  bool too_slow = false;        // that was the reason; MeasureOptions::all times it
  std::vector<double> samples;  // seconds a run
  int runs_a_sample = 1;        // short runs are timed several at once: a clock reading costs 20-50 ns

  double median() const;
  double best() const;
};

// One spec's weights on one device, made once for every token count.
class EntryTimer {
 public:
  virtual ~EntryTimer() = default;

  // What is asked about at this token count.
  virtual Query query(std::int64_t tokens) const = 0;
  // Times of the candidates of that query, in their order, those alone that options.kernels names.
  virtual Result<std::vector<EntryTimes>> run(std::int64_t tokens, const std::vector<Candidate>& list) = 0;
};

// `device` and `executor`, which only the CPU uses, must outlive the timer.
Result<std::unique_ptr<EntryTimer>> make_timer(const MlpSpec& spec, const DeviceInfo& device, Executor& executor,
                                               const MeasureOptions& options);
// Defined by src/cuda. A sample is one or more replays of a CUDA graph that runs the entry once on every copy of the
// weights, of which there are enough that none is found in L2.
Result<std::unique_ptr<EntryTimer>> make_cuda_timer(const MlpSpec& spec, const DeviceInfo& device,
                                                    const MeasureOptions& options);

// An entry outside the table that reads the weights, dense, 16-byte aligned and [out, in], and writes nothing that
// counts. Null without CUDA; defined by src/cuda.
const KernelEntry* cuda_read_floor();

// The candidates to be timed, and with a reason those that are not.
std::vector<EntryTimes> contenders(const std::vector<Candidate>& list, DeviceType type,
                                   const MeasureOptions& options);
// Whether an entry that took so many seconds has its samples.
bool sampled(const EntryTimes& times, double spent, const MeasureOptions& options);

}  // namespace fusedmlp::core
