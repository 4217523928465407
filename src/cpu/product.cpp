#include "cpu/product.h"

namespace fusedmlp::cpu {
namespace {

// How far before their use the weights of few rows are drawn into L1: 2 to 8 KiB are equal (Xeon, L3).
constexpr std::int64_t kAheadBytes = 4096;

}  // namespace

void Job::set_biases(const core::Problem& problem, float* scratch) {
  if (problem.packed) {
    const auto* base = static_cast<const std::byte*>(problem.packed);
    hidden_bias = reinterpret_cast<const float*>(base + shape.hidden_bias);
    down_bias = reinterpret_cast<const float*>(base + shape.down_bias);
    return;
  }
  float* down_scratch = scratch + shape.hidden_panels * 2 * isa.lanes;
  make_hidden_bias(spec, hidden_weights, shape, isa.lanes, scratch);
  make_down_bias(spec, problem.weights.bias_down, shape, isa.lanes, down_scratch);
  hidden_bias = scratch;
  down_bias = down_scratch;
}

void panel_product(const IsaKernels& isa, DType dtype, const PanelSource& source, std::int64_t panel, std::int64_t k0,
                   std::int64_t k1, const float* a, std::int64_t lda, const RowTiles& tiles, float* c,
                   bool accumulate, void* slice) {
  const std::int64_t row_bytes = 2 * isa.lanes * (dtype == DType::f16 ? 2 : 4);  // of a step of the tile
  for (std::int64_t k = k0; k < k1; k += kBlockK) {
    const std::int64_t end = std::min(k + kBlockK, k1);
    const void* weights = source.get(panel, k, end, slice);
    // What to draw in meanwhile: the slice that follows, shared out over the row tiles.
    const std::byte* ahead = static_cast<const std::byte*>(weights);
    std::int64_t ahead_step = 0;
    if (source.packed()) {
      ahead = end < k1 ? source.address(panel, end) : source.address(panel + 1, k0);
      ahead_step = row_bytes / tiles.count;
      if (tiles.size(0) < isa.tile_rows / 2) ahead = static_cast<const std::byte*>(weights) + kAheadBytes;
    }
    float* tile = c;
    for (int t = 0; t < tiles.count; ++t) {
      const int rows = tiles.size(t);
      isa.tile[static_cast<int>(dtype)][rows - 1](a + tiles.begin(t) * lda + (k - k0), lda, weights, end - k, tile,
                                                  accumulate || k > k0, ahead, ahead_step);
      ahead += ahead_step * (dtype == DType::bf16 ? (end - k) / 2 : end - k);
      tile += rows * 2 * isa.lanes;
    }
  }
}

void hidden_panel(const Job& job, std::int64_t panel, const float* x, std::int64_t ldx, const RowTiles& tiles,
                  float* hidden, std::int64_t ldh, float* c, void* slice) {
  panel_product(job.isa, job.spec.dtype, job.hidden, panel, 0, job.spec.d_in, x, ldx, tiles, c, false, slice);
  const float* bias = job.hidden_bias + panel * 2 * job.isa.lanes;
  for (int t = 0; t < tiles.count; ++t) {
    job.isa.hidden(job.spec, c + tiles.begin(t) * 2 * job.isa.lanes, bias, hidden + tiles.begin(t) * ldh, ldh,
                   tiles.size(t));
  }
}

void store_panel(const Job& job, std::int64_t panel, const float* c, const RowTiles& tiles, void* y,
                 std::int64_t ldy) {
  const std::int64_t width = job.shape.columns_per_down_panel;
  const std::int64_t column = panel * width;
  const int columns = static_cast<int>(std::min(width, job.spec.d_out - column));
  const float* bias = job.down_bias + panel * width;
  const std::int64_t element = static_cast<std::int64_t>(size_of(job.spec.dtype));
  for (int t = 0; t < tiles.count; ++t) {
    void* to = static_cast<std::byte*>(y) + (tiles.begin(t) * ldy + column) * element;
    job.isa.store(job.spec.dtype, c + tiles.begin(t) * width, bias, to, ldy, tiles.size(t), columns);
  }
}

}  // namespace fusedmlp::cpu
