// What the AMX drivers are made of: rows of x or of the hidden as bf16 tiles, times a slice of a panel.
//
// Rows lie as the left operands of TDPBF16PS, in pairs of tiles so that a 2 x 2 step reads 2 KiB in a row:
//   [rows / 32][k / 32][2][16 rows][32 k]      the last pair may be one tile: [k / 32][1][16][32]
// k beyond the matrix is zero; rows beyond it hold anything, since a row of a product depends on its own row only.
// The right operands are the bf16 panels of isa_kernels.h as they are: [k / 2][32 columns][2] is a pair of tiles of
// 16 columns, each with rows 128 bytes apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/partition.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cpu {

inline constexpr std::int64_t kTileHeight = 16;             // rows of a tile of x
inline constexpr std::int64_t kTileK = 32;                  // k of a tile
inline constexpr std::int64_t kPairRows = 2 * kTileHeight;  // rows of a block of products
inline constexpr std::int64_t kPanelWidth = 32;             // columns of a panel, and of a block of products
inline constexpr std::int64_t kTileBytes = 1024;
inline constexpr std::int64_t kStepBytes = 2 * kTileBytes;  // of a panel: 16 pairs of k times 32 columns
inline constexpr std::int64_t kBlockFloats = kPairRows * kPanelWidth;

// Bytes of `rows` rows of `k` columns as tiles.
constexpr std::size_t strip_bytes(std::int64_t rows, std::int64_t k) {
  return static_cast<std::size_t>(ceil_div(rows, kTileHeight) * ceil_div(k, kTileK) * kTileBytes);
}

// Rows as tiles, all of them or a range of k.
struct AmxStrip {
  std::byte* tiles;
  std::int64_t rows;
  std::int64_t k_tiles;  // of all k

  // The first tile of a pair of row tiles at tile `k` of k; the pair's other tile follows it.
  std::byte* at(std::int64_t pair, std::int64_t k) const {
    return tiles + (pair * 2 * k_tiles + k * tiles_in_pair(pair)) * kTileBytes;
  }
  std::int64_t pairs() const { return ceil_div(rows, kPairRows); }
  std::int64_t tiles_in_pair(std::int64_t pair) const { return rows - pair * kPairRows > kTileHeight ? 2 : 1; }
  std::int64_t rows_in_pair(std::int64_t pair) const {
    const std::int64_t left = rows - pair * kPairRows;
    return left < kPairRows ? left : kPairRows;
  }
};

// `steps` tiles of k of one panel. An incomplete last one lies apart, filled up with zeros.
struct AmxSlice {
  const std::byte* weights;
  const std::byte* last;
  std::int64_t steps;
  const std::byte* ahead;  // what is multiplied next, drawn into L2 meanwhile; null: nothing
  std::int64_t ahead_bytes;
};

// Products whose second half, vector work, is done while the next products are computed.
struct AmxPending {
  const float* c = nullptr;  // [rows][32] products
  std::int64_t rows = 0;     // still to do
  const float* bias = nullptr;
  std::byte* to = nullptr;  // hidden: a row of tiles every 64 bytes; y: every `row_bytes` bytes
  std::int64_t row_bytes = 0;
  std::int64_t columns = 0;  // of y
  float* sums = nullptr;     // [rows][32]: added to the products; without `to` the sum goes back there
  const MlpSpec* spec = nullptr;
};

// One thread's work on one block of rows.
struct AmxPass {
  const MlpSpec& spec;
  AmxStrip rows;
  float* block;           // products of one pair of rows, kBlockFloats
  bool backward = false;  // the direction of k changes with each block, so that its end is still in L1
  AmxPending pending = {};
  float* open = nullptr;  // where products belong that are still in tile registers
  void (*finish)(AmxPass&) = nullptr;
};

// The sums of products over several slices of k: those of the first slice are the sums, those of the last meet them.
struct AmxSums {
  float* blocks = nullptr;  // [pairs] of kBlockFloats; null: one slice is all of k
  bool first = true;
  bool last = true;
};

// Where a slice's products go: into tiles of the hidden, or into y.
struct AmxHiddenTarget {
  AmxSums sums;
  AmxStrip hidden;
  std::int64_t k_tile;  // of the hidden
  bool upper_half;      // gated: which 16 of the tile's 32 columns
  const float* bias;    // [32]
};

struct AmxDownTarget {
  AmxSums sums;
  std::byte* y;  // element [0, first column of the panel]
  std::int64_t row_bytes;
  std::int64_t columns;
  const float* bias;  // [32]
};

struct AmxKernels {
  // The calling thread's tile registers: set up for blocks of `rows` rows, and given back.
  void (*configure)(std::int64_t rows);
  void (*release)();
  // One slice over all rows of the pass. `k` is the slice's first tile in the rows.
  void (*hidden)(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const AmxHiddenTarget& target);
  void (*down)(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const AmxDownTarget& target);
};

// Finishes what is pending of a pass.
inline void finish(AmxPass& pass) {
  if (pass.finish) pass.finish(pass);
}

// The CPU must be of Isa::amx before anything of it is called.
const AmxKernels& amx_kernels();

// The same by AVX512-BF16's products of pairs, which the CPU must have.
const AmxKernels& dot_kernels();

}  // namespace fusedmlp::cpu
