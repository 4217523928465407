// Which kernel runs: the one that FUSEDMLP_KERNEL forces, else the fastest by the tuned table where that has the
// question, else the cheapest by prediction; always one that supports the question.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/tuned.h"

namespace fusedmlp::core {

enum class ChosenBy : std::uint8_t { nothing, prediction, tuned, forced };

struct Candidate {
  const KernelEntry* entry = nullptr;
  std::string unsupported;  // empty: it could run
  Prediction prediction;    // meaningful when supported; the measured time where the table has this token count
  bool chosen = false;
  ChosenBy by = ChosenBy::nothing;  // of the chosen one
  std::string measured;             // "measured 12.3 us on 2026-01-31"; empty: not in the tuned table
};

// Every entry of the device in table order, one of them chosen. An unknown or unsupported FUSEDMLP_KERNEL is
// a Status.
Result<std::vector<Candidate>> candidates(const Query& query);

// The same over any table; `forced` is the value of FUSEDMLP_KERNEL, null or empty: none; `tuned` what the tuned
// table has for the query, or null.
Result<std::vector<Candidate>> candidates(const Query& query, std::span<const KernelEntry> table, const char* forced,
                                          const TunedRecord* tuned = nullptr);

// What a caller who has a framework's own operations gains by the chosen entry.
struct Fusing {
  double library_seconds = 0;  // predicted for those operations; 0 on the CPU, where they are not modelled
  bool pays = true;  // on a GPU: the entry is forced, or it fuses (the table's last does not) and fusing_pays()
};
Fusing fusing(const Query& query, const std::vector<Candidate>& list);

struct Choice {
  const KernelEntry* entry = nullptr;
  std::size_t workspace_bytes = 0;
  double seconds = 0;  // predicted
  Fusing fusing;
};

// candidates() reduced to the entry that runs. Answers about a permanent description (core/device.h) are remembered
// on the calling thread: the same question again takes about 30 ns (mostly getenv), no lock and no memory.
Result<Choice> decide(const Query& query);
Result<const KernelEntry*> choose(const Query& query);  // the entry alone

// The one packed layout of the device's kernels, or null where they read the caller's weights.
const PackedLayout* packed_layout(DeviceType type);

// The least time physics allows for this problem on this device: arithmetic at peak or weights, x and y read
// and written once at the bandwidth of the level they sit in, whichever is longer.
Prediction physical_limit(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads);

const Candidate& chosen(const std::vector<Candidate>& list);

// "12.3 us", "12 ms"
std::string duration(double seconds);

// Why this candidate was taken, or was not.
std::string reason(const Candidate& candidate, const std::vector<Candidate>& list);

std::string explain_text(const Query& query, const std::vector<Candidate>& list);

}  // namespace fusedmlp::core
