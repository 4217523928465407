// Times of the CPU's registry entries on one problem: interleaved, so that what else the machine does meets all of
// them alike, and medians.
#pragma once

#include <cstdint>
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
  bool cold = false;                 // take copies of the weights in turn, so that none is found in a cache
  bool all = false;                  // also entries predicted to take more than kSlowRun
};

// Predicted seconds a run above which an entry that is not dispatch's choice is left out.
inline constexpr double kSlowRun = 0.5;

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
  EntryTimer(const MlpSpec& spec, const DeviceInfo& device, Executor& executor, const MeasureOptions& options);

  // What is asked about at this token count.
  Query query(std::int64_t tokens) const;
  // Times of the candidates of that query, in their order, those alone that options.kernels names.
  Result<std::vector<EntryTimes>> run(std::int64_t tokens, const std::vector<Candidate>& list);

 private:
  struct Copy {
    HostWeights weights;
    AlignedBuffer packed;
  };
  struct Contender;

  Status enter(const Query& query, Contender& contender);
  Result<double> time(Contender& contender, const RunArgs& args, int runs);
  bool finished(const Contender& contender) const;

  MlpSpec spec_;
  const DeviceInfo& device_;
  Executor& executor_;
  MeasureOptions options_;
  std::vector<Copy> copies_;
};

}  // namespace fusedmlp::core
