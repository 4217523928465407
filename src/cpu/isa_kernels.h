// The kernels that are compiled once for each instruction set, and the table that reaches them.
//
// A panel is the unit of packed weights: the 2 * lanes output columns that one tile computes, k-major:
//   fp32, fp16   [k][2 * lanes]
//   bf16         [ceil(k / 2)][2 * lanes][2]: two consecutive k of a column share 32 bits (even k low), so that
//                a shift or a mask widens them; an odd last k is followed by a zero
// In a gated MLP the first vector of a panel is gate columns and the second the up columns of the same hidden
// units; in a plain MLP and in the down projection both are consecutive columns. Columns beyond the matrix are 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cpu {

inline constexpr int kMaxTileRows = 14;
inline constexpr int kMaxLanes = 16;

struct IsaKernels {
  Isa isa;
  int lanes;      // fp32 lanes of a vector; a tile is 2 * lanes columns wide
  int tile_rows;  // rows of the largest tile

  // c[rows, 2 * lanes] = (accumulate ? c : 0) + a[rows, k] panel[k, 2 * lanes]. c is dense and 64-byte aligned.
  // On the way the `ahead_step * steps` bytes at `ahead` are drawn into L2, a little at each step (one k, two of
  // bf16), so that the misses hide behind the arithmetic; into L1, and every line of them, when c has fewer rows than
  // half of tile_rows, as only a tile that is all the rows has.
  using Tile = void (*)(const float* a, std::int64_t lda, const void* panel, std::int64_t k, float* c,
                        bool accumulate, const std::byte* ahead, std::int64_t ahead_step);
  Tile tile[kDTypeCount][kMaxTileRows];  // [storage][rows - 1]

  // c[count, 2 * lanes] += a[k] times each of `count` panels `stride` bytes apart, c as above. Nothing is drawn into
  // L2 on the way: for panels that are there.
  using Row = void (*)(const float* a, const std::byte* panels, std::size_t stride, std::int64_t count,
                       std::int64_t k, float* c);
  Row row[kDTypeCount];

  // hidden[r, :] = act(c[r, :] + bias): 2 * lanes columns when plain, lanes when gated. bias: 2 * lanes floats.
  void (*hidden)(const MlpSpec& spec, const float* c, const float* bias, float* hidden, std::int64_t ldh, int rows);

  // y[r, 0..cols) = c[r, :] + bias, rounded to the storage type; bias may be null. cols <= 2 * lanes.
  void (*store)(DType dtype, const float* c, const float* bias, void* y, std::int64_t ldy, int rows, int cols);

  // out[0..n) = float(in[0..n))
  void (*widen)(DType dtype, const void* in, float* out, std::int64_t n);

  // The forward activation alone, over n values (a multiple of lanes): what tests compare with core/activation.h.
  void (*activate)(const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n);
};

// The table of an ISA, which the CPU must support before anything of it is called; null for Isa::generic, which
// has the layer-by-layer reference only.
const IsaKernels* isa_kernels(Isa isa);

}  // namespace fusedmlp::cpu
