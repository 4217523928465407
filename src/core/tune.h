// Measuring specs for the tuned table.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/measure_entries.h"
#include "core/tuned.h"

namespace fusedmlp::core {

// What is measured unless the caller says otherwise: the powers of two up to this, one count in every bucket.
inline constexpr std::int64_t kTuneMostTokens = 1024;

struct TuneResult {
  TunedKey key;
  TunedRecord record;
  std::vector<EntryTimes> entries;  // entries[i].candidate.chosen: what prediction alone would take
};

// Measures each token count (>= 1) of each spec on the device (`executor`: on the CPU), the smaller counts first, so
// that the largest of a bucket is the one that stays. FUSEDMLP_KERNEL and the table as it is have no say. `before`
// hears what is measured next, `after` what came out; either may be empty.
Status tune(const std::vector<MlpSpec>& specs, std::vector<std::int64_t> tokens, const DeviceInfo& device,
            Executor& executor, const MeasureOptions& options,
            const std::function<void(const MlpSpec&, std::int64_t)>& before,
            const std::function<void(TuneResult)>& after);

// A pool of so many threads, which the library's own need not have. Defined by src/cpu.
std::unique_ptr<Executor> make_executor(int threads);

}  // namespace fusedmlp::core
