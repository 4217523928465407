#include "core/dispatch.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "core/cost_model.h"
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

Status choose_forced(const Query& query, std::vector<Candidate>& list, std::span<const KernelEntry> table,
                     const char* forced) {
  for (Candidate& candidate : list) {
    if (std::string_view(forced) != candidate.entry->name) continue;
    candidate.chosen = candidate.unsupported.empty();
    candidate.by = ChosenBy::forced;
    if (candidate.chosen) return {};
    return Status(StatusCode::unsupported, "FUSEDMLP_KERNEL",
                  core::format("{} cannot run {} with {} tokens: {}", candidate.entry->name, to_string(query.spec),
                               query.tokens, candidate.unsupported));
  }
  return unknown_kernel(forced, table);
}

// The cheapest supported entry, the earlier of equals.
Status choose_cheapest(const Query& query, std::vector<Candidate>& list) {
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
  best->by = ChosenBy::prediction;
  return {};
}

// Puts measurements in the place of predictions. Returns the entry that was the fastest; null where it is not here or
// cannot run, and then nothing of the record is used.
Candidate* apply_tuned(const Query& query, std::vector<Candidate>& list, const TunedRecord& record) {
  const auto fastest = std::find_if(list.begin(), list.end(), [&](const Candidate& c) {
    return c.unsupported.empty() && record.fastest() == c.entry->name;
  });
  if (fastest == list.end()) return nullptr;
  for (Candidate& candidate : list) {
    const auto time = record.seconds.find(candidate.entry->name);
    if (time == record.seconds.end() || !candidate.unsupported.empty()) continue;
    candidate.measured = core::format("measured {}", duration(time->second));
    if (record.tokens != query.tokens) candidate.measured += core::format(" at {} tokens", record.tokens);
    candidate.measured += core::format(" on {}", record.date.substr(0, 10));
    if (record.tokens != query.tokens) continue;
    candidate.prediction.seconds = time->second;
    candidate.prediction.basis = Basis::measured;
  }
  return &*fastest;
}

struct Remembered {
  MlpSpec spec;
  std::int64_t tokens;
  const DeviceInfo* device;  // permanent: the same address is the same description
  int threads;
  bool packed;
  OperandLayout operands;
  std::string forced;
  const TunedState* table;  // never another state at this address
  Choice choice;

  bool answers(const Query& query, const char* kernel, const TunedState& tuned_now) const {
    return device == &query.device && tokens == query.tokens && threads == query.threads && packed == query.packed &&
           table == &tuned_now && operands == query.operands && spec == query.spec && forced == kernel;
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

Result<std::vector<Candidate>> candidates(const Query& query, std::span<const KernelEntry> table, const char* forced,
                                          const TunedRecord* tuned) {
  std::vector<Candidate> list;
  list.reserve(table.size());
  for (const KernelEntry& entry : table) {
    Candidate candidate;
    candidate.entry = &entry;
    candidate.unsupported = entry.unsupported(query);
    if (!candidate.unsupported.empty()) {
      candidate.prediction.basis = Basis::unsupported;
    } else if (query.tokens > 0) {  // none take no time, and entries need not consider them
      candidate.prediction = entry.predict(query);
    }
    list.push_back(std::move(candidate));
  }
  Candidate* fastest = tuned == nullptr ? nullptr : apply_tuned(query, list, *tuned);
  if (forced != nullptr && *forced != '\0') {
    if (Status status = choose_forced(query, list, table, forced); !status) return status;
  } else if (fastest != nullptr) {
    fastest->chosen = true;
    fastest->by = ChosenBy::tuned;
  } else if (Status status = choose_cheapest(query, list); !status) {
    return status;
  }
  return list;
}

Result<std::vector<Candidate>> candidates(const Query& query) {
  return candidates(query, kernels(query.device.device.type), forced_kernel(), tuned().find(query));
}

const Candidate& chosen(const std::vector<Candidate>& list) {
  return *std::find_if(list.begin(), list.end(), [](const Candidate& c) { return c.chosen; });
}

Fusing fusing(const Query& query, const std::vector<Candidate>& list) {
  if (query.device.device.type == DeviceType::cpu) return {};
  const Candidate& taken = chosen(list);
  const double library = library_seconds(query.spec, query.tokens, query.device);
  const bool fuses = taken.entry != list.back().entry && fusing_pays(taken.prediction.seconds, library);
  return {library, fuses || taken.by == ChosenBy::forced};
}

Result<Choice> decide(const Query& query) {
  constexpr std::size_t kRemembered = 8;
  thread_local std::array<std::optional<Remembered>, kRemembered> recent;
  thread_local std::size_t next = 0;

  const char* forced = forced_kernel();
  const TunedState& table = tuned();
  for (const std::optional<Remembered>& answer : recent) {
    if (answer && answer->answers(query, forced, table)) return answer->choice;
  }
  const Result<std::vector<Candidate>> list =
      candidates(query, kernels(query.device.device.type), forced, table.find(query));
  if (!list) return list.status();
  const Candidate& taken = chosen(*list);
  const Choice choice{taken.entry, taken.entry->workspace_bytes(query), taken.prediction.seconds,
                      fusing(query, *list)};
  if (is_permanent(query.device)) {
    recent[next] = {query.spec,     query.tokens, &query.device, query.threads, query.packed,
                    query.operands, forced,       &table,        choice};
    next = (next + 1) % kRemembered;
  }
  return choice;
}

Result<const KernelEntry*> choose(const Query& query) {
  const Result<Choice> choice = decide(query);
  if (!choice) return choice.status();
  return choice->entry;
}

}  // namespace fusedmlp::core
