// Measuring specs for the tuned table.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/measure_entries.h"
#include "core/tuned.h"

namespace fusedmlp::core {

// What is measured unless the caller says otherwise: one count in every bucket up to 1024.
inline constexpr const char* kTuneTokens = "1,2,4,8,16,32,64,128,256,512,1024";

struct TuneResult {
  TunedKey key;
  TunedRecord record;
  std::vector<EntryTimes> entries;  // entries[i].candidate.chosen: what prediction alone would take
};

// Measures each token count (>= 1) of each spec on the CPU, the smaller counts first, so that the largest of a bucket
// is the one that stays. FUSEDMLP_KERNEL and the table as it is have no say. `before` hears what is measured next,
// `after` what came out; either may be empty.
Status tune(const std::vector<MlpSpec>& specs, std::vector<std::int64_t> tokens, const DeviceInfo& device,
            Executor& executor, const MeasureOptions& options,
            const std::function<void(const MlpSpec&, std::int64_t)>& before,
            const std::function<void(TuneResult)>& after);

}  // namespace fusedmlp::core
