// Register tiles and panels of every ISA this machine has: exact on small integers, at every height and length.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "core/numeric.h"
#include "cpu/product.h"
#include "cpu_test_isas.h"

namespace fusedmlp::cpu {
namespace {

struct Aligned {
  explicit Aligned(std::size_t bytes) : storage(bytes + 64) {
    auto address = reinterpret_cast<std::uintptr_t>(storage.data());
    data = storage.data() + (64 - address % 64) % 64;
  }
  std::vector<std::byte> storage;
  std::byte* data;
};

TEST(RowTiles, AreEvenAndCoverEveryRow) {
  for (const int largest : {1, 6, 14}) {
    for (std::int64_t rows = 1; rows < 200; ++rows) {
      const RowTiles tiles(rows, largest);
      std::int64_t next = 0;
      int least = largest, most = 0;
      for (int t = 0; t < tiles.count; ++t) {
        EXPECT_EQ(tiles.begin(t), next);
        next += tiles.size(t);
        least = std::min(least, tiles.size(t));
        most = std::max(most, tiles.size(t));
      }
      EXPECT_EQ(next, rows);
      EXPECT_LE(most, largest);
      EXPECT_LE(most - least, 1);
      EXPECT_EQ(tiles.count, (rows + largest - 1) / largest);
    }
  }
  const RowTiles example(32, 14);
  EXPECT_EQ(example.size(0) + example.size(1) + example.size(2), 32);
  EXPECT_GE(std::min({example.size(0), example.size(1), example.size(2)}), 10);
}

TEST(ScratchRows, AreNeverAMultipleOfHalfAKilobyteApart) {
  for (std::int64_t columns = 1; columns < 5000; ++columns) {
    const std::int64_t ld = scratch_ld(columns);
    EXPECT_GE(ld, columns);
    EXPECT_EQ(ld % 16, 0);
    EXPECT_NE(ld % 128, 0);
  }
}

class Tile : public testing::TestWithParam<Isa> {};

TEST_P(Tile, IsExactForEveryHeightLengthAndStorage) {
  const IsaKernels& isa = *isa_kernels(GetParam());
  const int width = 2 * isa.lanes;
  std::mt19937 random(7);
  std::uniform_int_distribution<int> small(-3, 3);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (int rows = 1; rows <= isa.tile_rows; ++rows) {
      for (const std::int64_t k : {1, 2, 3, 4, 5, 7, 8, 9, 64, 101}) {
        const std::int64_t lda = k + 5;
        std::vector<float> a(static_cast<std::size_t>(rows * lda));
        for (float& v : a) v = static_cast<float>(small(random));
        std::vector<float> b(static_cast<std::size_t>(k * width));
        Aligned panel(panel_bytes(dtype, k, isa.lanes));
        std::memset(panel.data, 0, panel_bytes(dtype, k, isa.lanes));
        const std::int64_t group = dtype == DType::bf16 ? 2 : 1;
        for (std::int64_t i = 0; i < k; ++i) {
          for (int n = 0; n < width; ++n) {
            const float v = static_cast<float>(small(random));
            b[static_cast<std::size_t>(i * width + n)] = v;
            core::store(dtype, panel.data, (i / group) * group * width + n * group + i % group, v);
          }
        }
        Aligned c(static_cast<std::size_t>(rows * width) * sizeof(float));
        auto* sums = reinterpret_cast<float*>(c.data);
        for (const bool accumulate : {false, true}) {
          for (int i = 0; i < rows * width; ++i) sums[i] = accumulate ? static_cast<float>(i) : 1e30f;
          isa.tile[static_cast<int>(dtype)][rows - 1](a.data(), lda, panel.data, k, sums, accumulate, panel.data, 0);
          for (int r = 0; r < rows; ++r) {
            for (int n = 0; n < width; ++n) {
              float want = accumulate ? static_cast<float>(r * width + n) : 0.0f;
              for (std::int64_t i = 0; i < k; ++i) {
                want += a[static_cast<std::size_t>(r * lda + i)] * b[static_cast<std::size_t>(i * width + n)];
              }
              ASSERT_EQ(sums[r * width + n], want) << to_string(dtype) << " rows " << rows << " k " << k;
            }
          }
        }
      }
    }
  }
}

// Panels beside each other times one row, on what c holds.
TEST_P(Tile, OneRowIsExactForEveryNumberOfPanels) {
  const IsaKernels& isa = *isa_kernels(GetParam());
  const std::int64_t width = 2 * isa.lanes;
  std::mt19937 random(8);
  std::uniform_int_distribution<int> small(-3, 3);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t k : {1, 2, 3, 64, 101, 255, 256, 257, 600}) {
      for (const std::int64_t count : {1, 2, 3, 6}) {
        const std::size_t stride = (panel_bytes(dtype, k, isa.lanes) + 63) / 64 * 64;
        std::vector<float> a(static_cast<std::size_t>(k));
        for (float& v : a) v = static_cast<float>(small(random));
        Aligned panels(static_cast<std::size_t>(count) * stride), c(static_cast<std::size_t>(count * width) * 4);
        std::memset(panels.data, 0, static_cast<std::size_t>(count) * stride);
        auto* sums = reinterpret_cast<float*>(c.data);
        std::vector<float> want(static_cast<std::size_t>(count * width));
        const std::int64_t group = dtype == DType::bf16 ? 2 : 1;
        for (std::int64_t column = 0; column < count * width; ++column) {
          const std::int64_t n = column % width;
          std::byte* panel = panels.data + static_cast<std::size_t>(column / width) * stride;
          want[static_cast<std::size_t>(column)] = sums[column] = static_cast<float>(column % 11);
          for (std::int64_t i = 0; i < k; ++i) {
            const float v = static_cast<float>(small(random));
            core::store(dtype, panel, (i / group) * group * width + n * group + i % group, v);
            want[static_cast<std::size_t>(column)] += a[static_cast<std::size_t>(i)] * v;
          }
        }
        isa.row[static_cast<int>(dtype)](a.data(), panels.data, stride, count, k, sums);
        for (std::int64_t column = 0; column < count * width; ++column) {
          ASSERT_EQ(sums[column], want[static_cast<std::size_t>(column)])
              << to_string(dtype) << " panels " << count << " k " << k << " column " << column;
        }
      }
    }
  }
}

// Every way a caller may hold the weights gives the same panels.
TEST_P(Tile, PanelsDoNotDependOnTheCallersLayout) {
  const int lanes = isa_kernels(GetParam())->lanes;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const auto& [d_in, d_hidden] :
         {std::pair<std::int64_t, std::int64_t>{37, 50}, {64, 64}, {5, 3}, {18, 161}}) {
      const std::size_t element = size_of(dtype);
      const MlpSpec spec{.d_in = d_in, .d_hidden = d_hidden, .d_out = d_in, .gated = true, .dtype = dtype};
      std::vector<std::byte> rows(static_cast<std::size_t>(2 * d_hidden * d_in) * element), columns(rows.size());
      for (std::int64_t out = 0; out < 2 * d_hidden; ++out) {
        for (std::int64_t in = 0; in < d_in; ++in) {
          const float v = static_cast<float>((out * 31 + in * 7) % 127);
          core::store(dtype, rows.data(), out * d_in + in, v);
          core::store(dtype, columns.data(), in * 2 * d_hidden + out, v);
        }
      }
      const auto view = [&](bool by_columns, std::int64_t first) {
        const auto* base = (by_columns ? columns : rows).data();
        return by_columns
                   ? MatrixView{base + static_cast<std::size_t>(first) * element, d_hidden, d_in, 1, 2 * d_hidden}
                   : MatrixView{base + static_cast<std::size_t>(first * d_in) * element, d_hidden, d_in, d_in, 1};
      };
      const PackedShape shape(spec, lanes);
      std::vector<std::vector<std::byte>> made;
      for (const bool gate_by_columns : {false, true}) {
        for (const bool up_by_columns : {false, true}) {
          core::HiddenWeights weights;
          weights.gate = view(gate_by_columns, 0);
          weights.up = view(up_by_columns, d_hidden);
          const PanelSource source = PanelSource::hidden(spec, weights, nullptr, shape, lanes);
          std::vector<std::byte>& all = made.emplace_back();
          for (std::int64_t p = 0; p < shape.hidden_panels; ++p) {
            Aligned panel(shape.hidden_panel_bytes);
            std::memset(panel.data, 0xff, shape.hidden_panel_bytes);
            source.make(p, 0, d_in, panel.data);
            all.insert(all.end(), panel.data, panel.data + shape.hidden_panel_bytes);
          }
        }
      }
      for (std::size_t i = 1; i < made.size(); ++i) EXPECT_EQ(made[i], made[0]) << to_string(dtype) << " form " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Tile, testing::ValuesIn(vector_isas()),
                         [](const auto& param) { return std::string(to_string(param.param)); });

}  // namespace
}  // namespace fusedmlp::cpu
