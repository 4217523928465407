// The step both drivers are made of: a block of fp32 rows times one panel, in register tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/isa_kernels.h"
#include "cpu/panels.h"

namespace fusedmlp::cpu {

// `rows` rows in tiles of at most `largest`, as even as possible: 32 rows in tiles of 14 are 11 + 11 + 10, not
// 14 + 14 + 4.
struct RowTiles {
  RowTiles(std::int64_t rows, int largest) : count(static_cast<int>((rows + largest - 1) / largest)), rows_(rows) {}
  std::int64_t begin(int tile) const { return rows_ * tile / count; }
  int size(int tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }

  int count;

 private:
  std::int64_t rows_;
};

// Longest k that one pass of a tile covers: its slice of the panel (k x 2 lanes, as stored) and of the rows then
// stay in a 32 KiB L1 while every row tile passes over them, and no sum is a longer chain than this, which keeps
// fp32 at the error of BLAS. Even, for bf16 pairs.
inline constexpr std::int64_t kBlockK = 256;

// fp32 elements between rows of scratch: vectors are aligned, and rows are not a multiple of 4 KiB apart, which
// would put a tile's rows into the same cache sets.
inline std::int64_t scratch_ld(std::int64_t columns) {
  const std::int64_t ld = (columns + 15) / 16 * 16;
  return ld % 128 == 0 ? ld + 16 : ld;
}

// What a run works with, resolved once.
struct Job {
  Job(const core::Problem& problem, const DeviceInfo& device)
      : isa(*isa_kernels(device.isa)),
        spec(problem.spec),
        shape(spec, isa.lanes),
        hidden_weights(core::resolve(spec, problem.weights)),
        hidden(PanelSource::hidden(spec, hidden_weights, problem.packed, shape, isa.lanes)),
        down(PanelSource::down(spec, problem.weights.down, problem.packed, shape, isa.lanes)) {}

  const IsaKernels& isa;
  const MlpSpec& spec;
  PackedShape shape;
  core::HiddenWeights hidden_weights;
  PanelSource hidden;
  PanelSource down;
  const float* hidden_bias = nullptr;  // [hidden_panels][2 * lanes]
  const float* down_bias = nullptr;    // [down_panels][2 * lanes]

  int tile_floats(std::int64_t rows) const { return static_cast<int>(rows) * 2 * isa.lanes; }
  // Biases from the packed copy, or made in `scratch` (bias_floats() floats).
  void set_biases(const core::Problem& problem, float* scratch);
  static std::size_t bias_floats(const PackedShape& shape, int lanes) {
    return static_cast<std::size_t>(shape.hidden_panels + shape.down_panels) * 2 * static_cast<std::size_t>(lanes);
  }
};

// c (rows x 2 lanes, dense, tile after tile) = (accumulate ? c : 0) + a[rows, k0..k1) panel[k0..k1), with `a`
// pointing at column k0. Slices of an unpacked panel are made in `slice`. While the rows of one packed slice are
// computed the slice that follows is drawn into the L2 cache, for few rows what they come to next into L1.
void panel_product(const IsaKernels& isa, DType dtype, const PanelSource& source, std::int64_t panel, std::int64_t k0,
                   std::int64_t k1, const float* a, std::int64_t lda, const RowTiles& tiles, float* c,
                   bool accumulate, void* slice);

// hidden[r, 0..columns) = act(x[r] panel + bias) for one panel; `c` is scratch of tile_floats(rows).
void hidden_panel(const Job& job, std::int64_t panel, const float* x, std::int64_t ldx, const RowTiles& tiles,
                  float* hidden, std::int64_t ldh, float* c, void* slice);

// y[r, columns of panel] = c + bias, rounded; c as panel_product left it.
void store_panel(const Job& job, std::int64_t panel, const float* c, const RowTiles& tiles, void* y,
                 std::int64_t ldy);

// Bytes of `slice` above; 0 with a packed copy.
inline std::size_t slice_bytes(DType dtype, int lanes, bool packed) {
  return packed ? 0 : panel_bytes(dtype, kBlockK, lanes);
}

}  // namespace fusedmlp::cpu
