// How work is cut among tasks. Pure arithmetic, no threads: every driver and the packing of weights ask here, so
// that the thread that packed a panel is the one that reads it, and so that balance can be tested for any machine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/aligned_buffer.h"

namespace fusedmlp::cpu {

struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// `units` (>= 0) in min(units, tasks) contiguous parts, in order, the largest ceil(units / tasks); tasks >= 1. Cuts
// fall on multiples of `group` units, which is what shares a cache line of output, where that makes neither fewer
// parts nor a larger one: balance is worth more than a line.
class Split {
 public:
  Split(std::int64_t units, std::int64_t tasks, std::int64_t group = 1)
      : units_(units),
        parts_(std::min(tasks, units)),
        group_(ceil_div(ceil_div(units, group), tasks) * group <= ceil_div(units, tasks) &&
                       ceil_div(units, group) >= parts_
                   ? group
                   : 1) {}

  std::int64_t units() const { return units_; }
  std::int64_t parts() const { return parts_; }
  std::int64_t group() const { return group_; }  // cuts fall on multiples of this many units
  // The units of a part; nothing for a part that does not exist.
  Range operator[](std::int64_t part) const { return {cut(part), cut(part + 1)}; }
  std::int64_t largest() const { return (*this)[0].size(); }

 private:
  std::int64_t cut(std::int64_t part) const {
    if (part >= parts_) return units_;
    const std::int64_t groups = ceil_div(units_, group_);
    return (part * (groups / parts_) + std::min(part, groups % parts_)) * group_;  // the first parts are the larger
  }

  std::int64_t units_;
  std::int64_t parts_;
  std::int64_t group_;
};

// Neighbouring panels of `columns` outputs (a power of two) of `element` bytes that share a cache line; 1: none do.
inline std::int64_t panels_per_line(std::int64_t columns, std::size_t element) {
  const auto bytes = columns * static_cast<std::int64_t>(element);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(core::kAlignment) / bytes);
}

// Blocks of rows that tasks take one after another as they come free.
struct RowBlocks {
  Split rows;             // [begin, end) of every block; rows.largest() rows at most, sizes differ by one unit
  std::int64_t unit = 1;  // rows of a unit
  std::int64_t tokens = 0;
  int tasks = 0;

  std::int64_t count() const { return rows.parts(); }
  std::int64_t largest() const { return std::min(tokens, rows.largest() * unit); }
  Range operator[](std::int64_t block) const {
    const Range r = rows[block];
    return {std::min(tokens, r.begin * unit), std::min(tokens, r.end * unit)};
  }
};

struct RowBlocking {
  int tile_rows;            // of the largest register tile
  std::int64_t unit = 1;    // cuts fall on multiples of this many rows (1 where a smaller tile costs nothing)
  std::size_t row_bytes;    // of a block's input, a row
  std::size_t cache_bytes;  // what a block's input may fill: it is read once for every panel
  int threads;              // that may run at once
};

// No block larger than the cache allows (but eight tiles, so that a panel drawn from memory is used often enough, and
// at most 32). No thread idle while there is a row tile for it. Up to eight blocks a thread are a whole number for
// every thread; beyond that taking turns keeps the threads within an eighth of each other.
RowBlocks row_blocks(std::int64_t tokens, const RowBlocking& blocking);

}  // namespace fusedmlp::cpu
