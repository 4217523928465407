#include "core/dispatch.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

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

bool same_device(const DeviceInfo& a, const DeviceInfo& b) {
  return a.device == b.device && a.isa == b.isa && a.cores == b.cores &&
         a.compute_capability == b.compute_capability && a.shared_memory_per_block == b.shared_memory_per_block &&
         a.l1_bytes == b.l1_bytes && a.l2_bytes == b.l2_bytes && a.l3_bytes == b.l3_bytes &&
         std::equal(std::begin(a.flops_per_core), std::end(a.flops_per_core), std::begin(b.flops_per_core)) &&
         a.l2_bandwidth_per_core == b.l2_bandwidth_per_core && a.l3_bandwidth_per_core == b.l3_bandwidth_per_core &&
         a.l3_bandwidth == b.l3_bandwidth && a.memory_bandwidth_per_core == b.memory_bandwidth_per_core &&
         a.memory_bandwidth == b.memory_bandwidth && a.launch_seconds == b.launch_seconds && a.name == b.name;
}

struct Remembered {
  MlpSpec spec;
  std::int64_t tokens;
  DeviceInfo device;
  int threads;
  bool packed;
  OperandLayout operands;
  std::string forced;
  Choice choice;

  bool answers(const Query& query, const char* kernel) const {
    return tokens == query.tokens && threads == query.threads && packed == query.packed && spec == query.spec &&
           operands == query.operands && forced == kernel && same_device(device, query.device);
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

Result<Choice> decide(const Query& query) {
  constexpr std::size_t kRemembered = 8;
  thread_local std::array<std::optional<Remembered>, kRemembered> recent;
  thread_local std::size_t next = 0;

  const char* forced = forced_kernel();
  for (const std::optional<Remembered>& answer : recent) {
    if (answer && answer->answers(query, forced)) return answer->choice;
  }
  const Result<std::vector<Candidate>> list = candidates(query, kernels(query.device.device.type), forced);
  if (!list) return list.status();
  const auto chosen = std::find_if(list->begin(), list->end(), [](const Candidate& c) { return c.chosen; });
  const Choice choice{chosen->entry, chosen->entry->workspace_bytes(query), chosen->prediction.seconds};
  recent[next] = {query.spec,   query.tokens,   query.device, query.threads,
                  query.packed, query.operands, forced,       choice};
  next = (next + 1) % kRemembered;
  return choice;
}

Result<const KernelEntry*> choose(const Query& query) {
  const Result<Choice> choice = decide(query);
  if (!choice) return choice.status();
  return choice->entry;
}

}  // namespace fusedmlp::core
