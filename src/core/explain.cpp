// What dispatch decided, in words.

#include <algorithm>

#include "core/cost_model.h"
#include "core/dispatch.h"
#include "core/format.h"
#include "core/launches.h"

namespace fusedmlp::core {

std::string duration(double seconds) {
  const double us = seconds * 1e6;
  if (us < 100) return core::format("{:.1f} us", us);
  return us < 1e4 ? core::format("{:.0f} us", us) : core::format("{:.0f} ms", us / 1e3);
}

namespace {

std::string megabytes(double bytes) {
  return bytes < 1e5 ? core::format("{:.1f} KB", bytes / 1e3) : core::format("{:.1f} MB", bytes / 1e6);
}

// "weights 14.2 MB, 604.0 MFLOP"
std::string work(const Query& query) {
  const double total = flops(query.spec, query.tokens);
  const std::string arithmetic =
      total < 1e9 ? core::format("{:.1f} MFLOP", total / 1e6) : core::format("{:.1f} GFLOP", total / 1e9);
  return core::format("weights {}, x and y {}, {}", megabytes(weight_bytes(query.spec)),
                      megabytes(activation_bytes(query.spec, query.tokens)), arithmetic);
}

}  // namespace

std::string reason(const Candidate& candidate, const std::vector<Candidate>& list) {
  if (!candidate.unsupported.empty()) return candidate.unsupported;
  const Candidate& other = chosen(list);
  const double mine = candidate.prediction.seconds;
  const double taken = other.prediction.seconds;
  if (candidate.chosen) {
    if (candidate.by == ChosenBy::tuned) return "tuned: " + candidate.measured;
    const auto cheaper = [&](const Candidate& c) { return c.unsupported.empty() && c.prediction.seconds < mine; };
    return std::any_of(list.begin(), list.end(), cheaper) ? "forced by FUSEDMLP_KERNEL"
                                                          : "the fastest that can run it";
  }
  if (other.by == ChosenBy::tuned) {
    if (candidate.measured.empty()) return core::format("not measured, tuned for {}", other.entry->name);
    return "slower: " + candidate.measured;
  }
  if (mine < taken) return core::format("FUSEDMLP_KERNEL forces {}", other.entry->name);
  if (mine == taken) return core::format("no faster than {}", other.entry->name);
  return core::format("slower: {} against {}", duration(mine), duration(taken));
}

std::string explain_text(const Query& query, const std::vector<Candidate>& list) {
  const DeviceInfo& device = query.device;
  const Prediction limit = physical_limit(query.spec, query.tokens, device, query.threads);
  std::string text = core::format("{}, {} token{}, {} ({}, {}), {} thread{}\n", to_string(query.spec), query.tokens,
                                  query.tokens == 1 ? "" : "s", to_string(device.device), device.name,
                                  device.device.type == DeviceType::cpu ? to_string(device.isa) : "gpu",
                                  query.threads, query.threads == 1 ? "" : "s");
  text += core::format("physical limit {}, bound by {} ({})\n", duration(limit.seconds), to_string(limit.bound),
                       work(query));

  std::size_t name_width = 6;
  std::size_t reason_width = 6;
  for (const Candidate& candidate : list) {
    name_width = std::max(name_width, std::string_view(candidate.entry->name).size());
    reason_width = std::max(reason_width, reason(candidate, list).size());
  }
  text += core::format("  {:<{}}  {:>12}  {:<11}  {:<8}  {:<{}}  {}\n", "kernel", name_width, "predicted", "basis",
                       "bound", "reason", reason_width, "what it does");
  for (const Candidate& candidate : list) {
    const bool runs = candidate.unsupported.empty();
    text += core::format("{} {:<{}}  {:>12}  {:<11}  {:<8}  {:<{}}  {}\n", candidate.chosen ? '*' : ' ',
                         candidate.entry->name, name_width, runs ? duration(candidate.prediction.seconds) : "-",
                         to_string(candidate.prediction.basis), runs ? to_string(candidate.prediction.bound) : "-",
                         reason(candidate, list), reason_width, candidate.entry->summary);
    for (const LaunchRecord& record : launches(*candidate.entry, query)) {
      text += core::format("    {:<{}}  {}\n", "", name_width, to_string(record));
    }
  }
  if (device.device.type != DeviceType::cpu) {
    const Fusing gain = fusing(query, list);
    text += core::format("a framework's own operations: predicted {}{}\n", duration(gain.library_seconds),
                         gain.pays ? "" : ": from PyTorch they run instead");
  }
  const TunedState& table = tuned();
  if (table.notable()) text += core::format("tuned table {}\n", table.describe(device));
  return text;
}

}  // namespace fusedmlp::core
