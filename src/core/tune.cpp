#include "core/tune.h"

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/text.h"

namespace fusedmlp::core {

Status tune(const std::vector<MlpSpec>& specs, std::vector<std::int64_t> tokens, const DeviceInfo& device,
            Executor& executor, const MeasureOptions& options,
            const std::function<void(const MlpSpec&, std::int64_t)>& before,
            const std::function<void(TuneResult)>& after) {
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const MlpSpec& spec : specs) {
    const Result<std::unique_ptr<EntryTimer>> made = make_timer(spec, device, executor, options);
    if (!made) return made.status();
    EntryTimer& timer = **made;
    for (const std::int64_t count : tokens) {
      if (before) before(spec, count);
      const Query query = timer.query(count);
      const Result<std::vector<Candidate>> list = candidates(query, kernels(device.device.type), nullptr);
      if (!list) return list.status();
      Result<std::vector<EntryTimes>> entries = timer.run(count, *list);
      if (!entries) return entries.status();
      TuneResult result{tuned_key(query), {count, utc_now(), {}}, std::move(entries).value()};
      for (const EntryTimes& entry : result.entries) {
        if (entry.skipped.empty()) result.record.seconds[entry.candidate.entry->name] = entry.median();
      }
      if (after) after(std::move(result));
    }
  }
  return {};
}

}  // namespace fusedmlp::core
