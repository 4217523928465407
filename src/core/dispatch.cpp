#include "core/dispatch.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "core/device.h"
#include "core/format.h"
#include "core/text.h"

namespace fusedmlp::core {
namespace {

const char* forced_kernel() {
  const char* name = std::getenv("FUSEDMLP_KERNEL");
  return name == nullptr ? "" : name;
}

Status unknown_kernel(const char* forced, std::span<const KernelEntry> table) {
  std::string names;
  for (const KernelEntry& entry : table) {
    names += names.empty() ? "" : ", ";
    names += entry.name;
  }
  return Status(StatusCode::invalid_argument, "FUSEDMLP_KERNEL",
                core::format("got {}, accepted: {}", quoted(forced), names));
}

// Marks the entry that runs: the forced one, else the cheapest supported one, the earlier of equals.
Status mark_chosen(const Query& query, std::vector<Candidate>& list, std::span<const KernelEntry> table,
                   const char* forced) {
  if (forced != nullptr && *forced != '\0') {
    for (Candidate& candidate : list) {
      if (std::string_view(forced) != candidate.entry->name) continue;
      candidate.chosen = candidate.unsupported.empty();
      if (candidate.chosen) return {};
      return Status(StatusCode::unsupported, "FUSEDMLP_KERNEL",
                    core::format("{} cannot run {} with {} tokens: {}", candidate.entry->name, to_string(query.spec),
                                 query.tokens, candidate.unsupported));
    }
    return unknown_kernel(forced, table);
  }
  Candidate* best = nullptr;
  double best_seconds = 0;
  for (Candidate& candidate : list) {
    if (!candidate.unsupported.empty()) continue;
    double seconds = candidate.prediction.seconds;
    if (std::isnan(seconds)) seconds = std::numeric_limits<double>::infinity();
    if (best == nullptr || seconds < best_seconds) {
      best = &candidate;
      best_seconds = seconds;
    }
  }
  if (best == nullptr) {
    return Status(StatusCode::unsupported, "device",
                  core::format("no kernel on {} runs {}", to_string(query.device.device), to_string(query.spec)));
  }
  best->chosen = true;
  return {};
}

struct Remembered {
  MlpSpec spec;
  std::int64_t tokens;
  const DeviceInfo* device;  // permanent: the same address is the same description
  int threads;
  bool packed;
  std::string forced;
  const KernelEntry* entry;

  bool answers(const Query& query, const char* kernel) const {
    return device == &query.device && tokens == query.tokens && threads == query.threads && packed == query.packed &&
           spec == query.spec && forced == kernel;
  }
};

}  // namespace

std::span<const KernelEntry> kernels(DeviceType type) {
  return type == DeviceType::cpu ? cpu_kernels() : cuda_kernels();
}

const PackedLayout* packed_layout(DeviceType type) {
  for (const KernelEntry& entry : kernels(type)) {
    if (entry.layout != nullptr) return entry.layout;
  }
  return nullptr;
}

Result<std::vector<Candidate>> candidates(const Query& query, std::span<const KernelEntry> table,
                                          const char* forced) {
  std::vector<Candidate> list;
  list.reserve(table.size());
  for (const KernelEntry& entry : table) {
    Candidate candidate{&entry, entry.unsupported(query), {}, false};
    if (!candidate.unsupported.empty()) {
      candidate.prediction.basis = Basis::unsupported;
    } else if (query.tokens > 0) {  // none take no time, and entries need not consider them
      candidate.prediction = entry.predict(query);
    }
    list.push_back(std::move(candidate));
  }
  if (Status status = mark_chosen(query, list, table, forced); !status) return status;
  return list;
}

Result<std::vector<Candidate>> candidates(const Query& query) {
  return candidates(query, kernels(query.device.device.type), forced_kernel());
}

Result<const KernelEntry*> choose(const Query& query) {
  constexpr std::size_t kRemembered = 8;
  thread_local std::array<std::optional<Remembered>, kRemembered> recent;
  thread_local std::size_t next = 0;

  const char* forced = forced_kernel();
  for (const std::optional<Remembered>& answer : recent) {
    if (answer && answer->answers(query, forced)) return answer->entry;
  }
  const Result<std::vector<Candidate>> list = candidates(query, kernels(query.device.device.type), forced);
  if (!list) return list.status();
  const auto chosen = std::find_if(list->begin(), list->end(), [](const Candidate& c) { return c.chosen; });
  if (is_permanent(query.device)) {
    recent[next] = {query.spec, query.tokens, &query.device, query.threads, query.packed, forced, chosen->entry};
    next = (next + 1) % kRemembered;
  }
  return chosen->entry;
}

}  // namespace fusedmlp::core
