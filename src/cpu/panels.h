// Packed weights: where each panel lies, how it is made, and how kernels get at one.
//
// A packed copy is, in this order and each part 64-byte aligned:
//   hidden panels  [hidden_panels][d_in as isa_kernels.h stores it][2 * lanes]   (gate and up, or up)
//   hidden biases  [hidden_panels][2 * lanes] fp32, zero where there is none
//   down panels    [down_panels][d_hidden ...][2 * lanes]
//   down biases    [down_panels][2 * lanes] fp32
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernel.h"
#include "core/weight_rows.h"
#include "cpu/partition.h"

namespace fusedmlp::cpu {

// Sizes and offsets (bytes) of a packed copy for vectors of `lanes` fp32.
struct PackedShape {
  PackedShape(const MlpSpec& spec, int lanes);

  std::int64_t columns_per_hidden_panel;  // hidden units: 2 * lanes when plain, lanes when gated
  std::int64_t columns_per_down_panel;    // 2 * lanes
  std::int64_t hidden_panels;
  std::int64_t down_panels;
  std::size_t hidden_panel_bytes;
  std::size_t down_panel_bytes;
  std::size_t hidden_bias;
  std::size_t down_weights;
  std::size_t down_bias;
  std::size_t total;
};

// Who reads which panels in cpu.columns, where tasks write columns of an fp32 hidden and then of y; and therefore who
// packs them, so that a page lies with the thread that will read it.
Split hidden_split(const PackedShape& shape, int tasks);
Split down_split(const PackedShape& shape, DType dtype, int tasks);

// Bytes of `k` rows of a panel.
std::size_t panel_bytes(DType dtype, std::int64_t k, int lanes);

// One of the two products' weights as panels: packed ones, or made on the fly from the caller's matrices.
class PanelSource {
 public:
  static PanelSource hidden(const MlpSpec& spec, const core::HiddenWeights& weights, const void* packed,
                            const PackedShape& shape, int lanes);
  static PanelSource down(const MlpSpec& spec, const MatrixView& weights, const void* packed,
                          const PackedShape& shape, int lanes);

  // Rows [k0, k1) of panel `panel`; k0 is even. Unpacked sources write them to `scratch`
  // (panel_bytes(dtype, k1 - k0, lanes), 64-byte aligned) and return it.
  const void* get(std::int64_t panel, std::int64_t k0, std::int64_t k1, void* scratch) const {
    if (packed_) return address(panel, k0);
    make(panel, k0, k1, scratch);
    return scratch;
  }
  bool packed() const { return packed_ != nullptr; }
  // Where get() finds that row of a packed source; may lie past the end, for prefetching.
  const std::byte* address(std::int64_t panel, std::int64_t k0) const {
    return packed_ + static_cast<std::size_t>(panel) * panel_stride_ + offset(k0);
  }

  std::size_t panel_stride() const { return panel_stride_; }  // bytes, of a packed source

  // Always makes the panel, whole or in part, whether there is a packed copy or not.
  void make(std::int64_t panel, std::int64_t k0, std::int64_t k1, void* to) const;

  std::int64_t k() const { return first_.cols; }

 private:
  PanelSource() = default;
  std::size_t offset(std::int64_t k0) const { return static_cast<std::size_t>(k0) * row_bytes_; }

  const std::byte* packed_ = nullptr;
  std::size_t panel_stride_ = 0;
  std::size_t row_bytes_ = 0;
  DType dtype_ = DType::f32;
  int lanes_ = 0;
  MatrixView first_;   // columns of the first vector: gate, or all columns
  MatrixView second_;  // gated: columns of the second vector
};

// The biases of every panel as fp32, in the packed copy's form. `to` holds panels * 2 * lanes floats.
void make_hidden_bias(const MlpSpec& spec, const core::HiddenWeights& weights, const PackedShape& shape, int lanes,
                      float* to);
void make_down_bias(const MlpSpec& spec, const VectorView& bias, const PackedShape& shape, int lanes, float* to);

// The one layout of all CPU kernels.
const core::PackedLayout& panel_layout();

}  // namespace fusedmlp::cpu
