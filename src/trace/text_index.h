// Numbers equal texts: the n-th text that is new gets n.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "trace/trace.h"

namespace fusedmlp::trace {

// Keeps views: whoever adds a text keeps its bytes. std::unordered_map cost twice the parsing itself here.
class TextIndex {
 public:
  // The text's number, and whether it is new.
  struct Found {
    std::uint32_t id;
    bool added;
  };

  Found add(std::string_view text) {
    if (texts_.size() * 2 >= slots_.size()) grow();
    const std::uint64_t hash = hash_of(text);
    for (std::size_t at = hash & mask();; at = (at + 1) & mask()) {
      Slot& slot = slots_[at];
      if (slot.id == kNone) {
        slot = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::uint32_t>(texts_.size())};
        texts_.push_back(text);
        return {slot.id, true};
      }
      if (slot.tag == static_cast<std::uint32_t>(hash >> 32) && texts_[slot.id] == text) return {slot.id, false};
    }
  }

  // Points text `id` to equal bytes elsewhere.
  void rebind(std::uint32_t id, std::string_view text) { texts_[id] = text; }

  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t id = kNone;
  };

  std::size_t mask() const { return slots_.size() - 1; }

  void grow() {
    std::vector<Slot> old(slots_.empty() ? 256 : slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.id == kNone) continue;
      std::size_t at = hash_of(texts_[slot.id]) & mask();
      while (slots_[at].id != kNone) at = (at + 1) & mask();
      slots_[at] = slot;
    }
  }

  // Eight bytes a step: multiplied by an odd constant, high bits folded onto the low ones.
  static std::uint64_t hash_of(std::string_view text) {
    constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;
    const auto mix = [](std::uint64_t a) {
      a *= kOdd;
      return a ^ (a >> 32);
    };
    std::uint64_t hash = text.size() * kOdd + 1;
    const char* p = text.data();
    std::size_t left = text.size();
    for (; left >= 8; p += 8, left -= 8) {
      std::uint64_t word;
      std::memcpy(&word, p, 8);
      hash = mix(hash ^ word);
    }
    std::uint64_t word = 0;
    if (left > 0) std::memcpy(&word, p, left);
    return mix(mix(hash ^ word));
  }

  std::vector<Slot> slots_;
  std::vector<std::string_view> texts_;
};

}  // namespace fusedmlp::trace
