// Which kernel runs: the cheapest supported entry, unless FUSEDMLP_KERNEL forces one.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace fusedmlp::core {

struct Candidate {
  const KernelEntry* entry;
  std::string unsupported;  // empty: it could run
  Prediction prediction;    // meaningful when supported
  bool chosen = false;
};

// Every entry of the device in table order, one of them chosen. An unknown or unsupported FUSEDMLP_KERNEL is
// a Status.
Result<std::vector<Candidate>> candidates(const Query& query);

// The same over any table; `forced` is the value of FUSEDMLP_KERNEL, null or empty: none.
Result<std::vector<Candidate>> candidates(const Query& query, std::span<const KernelEntry> table, const char* forced);

struct Choice {
  const KernelEntry* entry;
  std::size_t workspace_bytes;
  double seconds;  // predicted
};

// candidates() reduced to the entry that runs; cheap, remembers recent answers on the calling thread.
Result<Choice> decide(const Query& query);
Result<const KernelEntry*> choose(const Query& query);  // the entry alone

// The one packed layout of the device's kernels, or null where they read the caller's weights.
const PackedLayout* packed_layout(DeviceType type);

// The least time physics allows for this problem on this device: arithmetic at peak or weights, x and y read
// and written once at the bandwidth of the level they sit in, whichever is longer.
Prediction physical_limit(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads);

// Why this candidate was taken, or was not.
std::string reason(const Candidate& candidate, const std::vector<Candidate>& list);

std::string explain_text(const Query& query, const std::vector<Candidate>& list);

}  // namespace fusedmlp::core
