#include "core/tuned.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "core/format.h"

namespace fusedmlp::core {
namespace {

const char* isa_text(const DeviceInfo& device) {
  return device.device.type == DeviceType::cpu ? to_string(device.isa) : "";
}

// A state and those before it. None is ever freed: a reader may hold one, and there are as many as calls of tune.
struct Kept {
  TunedState state;
  const Kept* before;
};

std::atomic<const Kept*> g_kept{nullptr};

std::mutex& loading() {
  static std::mutex mutex;
  return mutex;
}

void keep(TunedState state) {
  g_kept.store(new Kept{std::move(state), g_kept.load(std::memory_order_relaxed)}, std::memory_order_release);
}

}  // namespace

std::int64_t token_bucket(std::int64_t tokens) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;  // the largest power of two that fits
  return tokens >= kMost ? kMost : static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(tokens)));
}

const std::string& TunedRecord::fastest() const {
  return std::min_element(seconds.begin(), seconds.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

TunedKey tuned_key(const Query& query) {
  return {query.device.name, isa_text(query.device),    query.threads, version(), to_string(query.spec),
          query.packed,      token_bucket(query.tokens)};
}

const TunedRecord* TunedState::find(const Query& query) const {
  if (table.empty() || query.tokens < 1) return nullptr;
  const auto found = table.find(tuned_key(query));
  return found == table.end() ? nullptr : &found->second;
}

std::size_t TunedState::count(const DeviceInfo& device) const {
  return static_cast<std::size_t>(std::count_if(table.begin(), table.end(), [&](const auto& item) {
    const TunedKey& key = item.first;
    return key.device == device.name && key.isa == isa_text(device) && key.version == version();
  }));
}

std::string TunedState::describe(const DeviceInfo& device) const {
  if (path.empty()) return ignored;
  if (!ignored.empty()) return core::format("{}: {}{}", path, exists ? "not used: " : "", ignored);
  const std::size_t here = count(device);
  if (here > 0) {
    return core::format("{}: {} measurement{}, {} of this device", path, table.size(), table.size() == 1 ? "" : "s",
                        here);
  }
  return core::format("{}: {} measurement{}, none of this device ({}, {}) with fusedmlp {}", path, table.size(),
                      table.size() == 1 ? "" : "s", device.name, isa_text(device), version());
}

const TunedState& tuned() noexcept {
  if (const Kept* kept = g_kept.load(std::memory_order_acquire)) return kept->state;
  try {
    const std::lock_guard lock(loading());
    if (g_kept.load(std::memory_order_relaxed) == nullptr) keep(read_tuned());
    return g_kept.load(std::memory_order_relaxed)->state;
  } catch (...) {  // memory is out; the next call tries again
    static const TunedState none;
    return none;
  }
}

void reload_tuned() {
  TunedState state = read_tuned();
  const std::lock_guard lock(loading());
  keep(std::move(state));
}

}  // namespace fusedmlp::core
