#include "fusedmlp/weights.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/weight_rows.h"
#include "unit/fixtures.h"

namespace fusedmlp {
namespace {

using test::Layout;
using test::Member;
using test::Mlp;
using test::uniform;

MlpSpec spec_of(const char* text) { return parse_spec(text).value(); }

std::string error_of(const MlpSpec& spec, const MlpWeights& weights) { return validate(spec, weights).to_string(); }

// "invalid_argument: MEMBER: ..." and nothing else.
void expect_wrong(const MlpSpec& spec, const MlpWeights& weights, const std::string& member,
                  const std::string& message) {
  EXPECT_EQ(error_of(spec, weights), "invalid_argument: " + member + ": " + message);
}

TEST(Weights, EveryLayoutIsAccepted) {
  for (const char* text : {"gelu:5x7->3", "gelu:5x7->3+bias,bf16", "geglu:5x7->3", "geglu:5x7->3+bias_gate,fp16",
                           "geglu:5x7->3+bias", "geglu:1x1->1+bias", "gelu:1x4->1"}) {
    for (const Layout layout : {Layout::out_in, Layout::in_out, Layout::padded}) {
      const MlpSpec spec = spec_of(text);
      const Mlp apart(spec, uniform(), layout);
      EXPECT_EQ(error_of(spec, apart.weights), "ok") << text;
      if (!spec.gated || spec.bias_gate != spec.bias_up) continue;
      const Mlp packed(spec, uniform(), layout, true);
      EXPECT_EQ(error_of(spec, packed.weights), "ok") << text;
    }
  }
}

TEST(Weights, TheSpecIsCheckedFirst) {
  MlpSpec spec = spec_of("gelu:5x7");
  const Mlp mlp(spec, uniform());
  spec.d_in = 0;
  expect_wrong(spec, mlp.weights, "d_in", "must be from 1 to 16777216, got 0");
}

TEST(Weights, MissingMembers) {
  const MlpSpec spec = spec_of("geglu:5x7->3+bias");
  const Mlp mlp(spec, uniform());
  MlpWeights w = mlp.weights;
  w.up.data = nullptr;
  expect_wrong(spec, w, "up", "is missing: data is null");
  w = mlp.weights;
  w.gate.data = nullptr;
  expect_wrong(spec, w, "gate", "is missing: data is null");
  w = mlp.weights;
  w.gate.data = w.up.data = nullptr;
  expect_wrong(spec, w, "gate", "is missing: a gated MLP needs gate and up, or gate_up");
  w = mlp.weights;
  w.down.data = nullptr;
  expect_wrong(spec, w, "down", "is missing: data is null");
  w = mlp.weights;
  w.bias_gate.data = nullptr;
  expect_wrong(spec, w, "bias_gate", "is missing: data is null");
  w = mlp.weights;
  w.bias_up.data = nullptr;
  expect_wrong(spec, w, "bias_up", "is missing: data is null");
  w = mlp.weights;
  w.bias_down.data = nullptr;
  expect_wrong(spec, w, "bias_down", "is missing: data is null");
  const Mlp packed(spec, uniform(), Layout::out_in, true);
  w = packed.weights;
  w.bias_gate_up.data = nullptr;
  expect_wrong(spec, w, "bias_gate_up", "is missing: data is null");
}

TEST(Weights, MembersThatShouldBeEmpty) {
  const float some = 0;
  const MlpSpec plain = spec_of("gelu:5x7->3");
  const Mlp plain_mlp(plain, uniform());
  const std::string empty = "must stay empty (data == nullptr): ";
  MlpWeights w = plain_mlp.weights;
  w.gate.data = &some;
  expect_wrong(plain, w, "gate", empty + "a plain MLP has up and down only");
  w = plain_mlp.weights;
  w.gate_up.data = &some;
  expect_wrong(plain, w, "gate_up", empty + "a plain MLP has up and down only");
  w = plain_mlp.weights;
  w.bias_gate_up.data = &some;
  expect_wrong(plain, w, "bias_gate_up", empty + "a plain MLP has up and down only");
  w = plain_mlp.weights;
  w.bias_gate.data = &some;
  expect_wrong(plain, w, "bias_gate", empty + "a plain MLP has up and down only");
  w = plain_mlp.weights;
  w.bias_up.data = &some;
  expect_wrong(plain, w, "bias_up", empty + "the spec has no such bias");
  w = plain_mlp.weights;
  w.bias_down.data = &some;
  expect_wrong(plain, w, "bias_down", empty + "the spec has no such bias");

  const MlpSpec gated = spec_of("geglu:5x7->3");
  const Mlp apart(gated, uniform());
  w = apart.weights;
  w.bias_gate.data = &some;
  expect_wrong(gated, w, "bias_gate", empty + "the spec has no such bias");
  w = apart.weights;
  w.bias_gate_up.data = &some;
  expect_wrong(gated, w, "bias_gate_up", empty + "gate and up are given apart");

  const Mlp packed(gated, uniform(), Layout::out_in, true);
  w = packed.weights;
  w.gate = apart.weights.gate;
  expect_wrong(gated, w, "gate", empty + "gate_up holds both");
  w = packed.weights;
  w.up = apart.weights.up;
  expect_wrong(gated, w, "up", empty + "gate_up holds both");
  for (const bool gate : {true, false}) {
    w = packed.weights;
    (gate ? w.bias_gate : w.bias_up).data = &some;
    expect_wrong(gated, w, gate ? "bias_gate" : "bias_up", empty + "the bias of gate_up is bias_gate_up");
  }
  w = packed.weights;
  w.bias_gate_up.data = &some;
  expect_wrong(gated, w, "bias_gate_up", empty + "the spec has no such bias");
}

TEST(Weights, PackedBiasesComeTogether) {
  const Mlp packed(spec_of("geglu:5x7->3+bias"), uniform(), Layout::out_in, true);
  MlpSpec one = packed.spec();
  one.bias_gate = false;
  expect_wrong(one, packed.weights, "bias_gate_up",
               "holds both biases, so spec.bias_gate and spec.bias_up must be equal, got false and true");
}

TEST(Weights, ShapesNameTheMember) {
  const MlpSpec spec = spec_of("geglu:5x7->3+bias");
  const Mlp mlp(spec, uniform());
  MlpWeights w = mlp.weights;
  w.up.rows = 6;
  expect_wrong(spec, w, "up", "must be [7, 5] ([out, in]), got [6, 5]");
  w = mlp.weights;
  w.gate.cols = 7;
  expect_wrong(spec, w, "gate", "must be [7, 5] ([out, in]), got [7, 7]");
  w = mlp.weights;
  std::swap(w.down.rows, w.down.cols);
  expect_wrong(spec, w, "down", "must be [3, 7] ([out, in]), got [7, 3]");
  w = mlp.weights;
  w.bias_up.size = 5;
  expect_wrong(spec, w, "bias_up", "must have 7 elements, got 5");
  w = mlp.weights;
  w.bias_down.size = -1;
  expect_wrong(spec, w, "bias_down", "must have 3 elements, got -1");
  const Mlp packed(spec, uniform(), Layout::out_in, true);
  w = packed.weights;
  w.gate_up.rows = 7;
  expect_wrong(spec, w, "gate_up", "must be [14, 5] ([out, in]), got [7, 5]");
  w = packed.weights;
  w.bias_gate_up.size = 7;
  expect_wrong(spec, w, "bias_gate_up", "must have 14 elements, got 7");
}

TEST(Weights, StridesNameTheMember) {
  const MlpSpec spec = spec_of("gelu:5x7->3+bias");
  const Mlp mlp(spec, uniform());
  const auto wrong_strides = [&](std::int64_t row, std::int64_t col) {
    MlpWeights w = mlp.weights;
    w.up.row_stride = row;
    w.up.col_stride = col;
    expect_wrong(spec, w, "up",
                 "must have col_stride 1 and row_stride >= 5 ([out, in]) or row_stride 1 and col_stride >= 7 ([in, "
                 "out]), got row_stride " +
                     std::to_string(row) + " and col_stride " + std::to_string(col));
  };
  wrong_strides(4, 1);   // rows overlap
  wrong_strides(1, 6);   // columns overlap
  wrong_strides(10, 2);  // no unit stride
  wrong_strides(0, 1);   // expanded
  wrong_strides(1, 1);
  wrong_strides(-5, 1);  // flipped
  wrong_strides(5, -1);
  wrong_strides(1, std::int64_t{-1} << 62);
  MlpWeights w = mlp.weights;
  w.up.row_stride = std::int64_t{1} << 60;
  expect_wrong(spec, w, "up",
               "strides must be at most 68719476736, got row_stride 1152921504606846976 and col_stride 1");
  for (const std::int64_t stride : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    w = mlp.weights;
    w.bias_down.stride = stride;
    expect_wrong(spec, w, "bias_down", "stride must be from 1 to 68719476736, got " + std::to_string(stride));
  }
}

TEST(Weights, StridesOfExtentsOfOneAreFree) {
  const MlpSpec spec = spec_of("gelu:1x4->1+bias");
  const Mlp mlp(spec, uniform());
  MlpWeights w = mlp.weights;
  w.up.col_stride = -77;    // [4, 1]
  w.down.row_stride = -77;  // [1, 4]
  w.bias_down.stride = 0;   // one element
  EXPECT_EQ(error_of(spec, w), "ok");

  const MlpWeights plain = core::normalized(w);
  EXPECT_EQ(plain.up.col_stride, 1);
  EXPECT_EQ(plain.up.row_stride, 1);
  EXPECT_EQ(plain.down.col_stride, 1);
  EXPECT_EQ(plain.down.row_stride, 4);
  EXPECT_EQ(plain.bias_down.stride, 1);
  EXPECT_EQ(plain.gate.data, nullptr);

  w.down.col_stride = 9;  // one row of a matrix whose columns are 9 apart
  EXPECT_EQ(error_of(spec, w), "ok");
  EXPECT_EQ(core::normalized(w).down.row_stride, 1);
  EXPECT_EQ(core::normalized(w).down.col_stride, 9);
}

TEST(Weights, MisalignedPointersAreRefused) {
  const MlpSpec spec = spec_of("gelu:5x7->3+bias");
  const Mlp mlp(spec, uniform());
  MlpWeights w = mlp.weights;
  w.down.data = static_cast<const char*>(w.down.data) + 1;
  const std::string matrix = error_of(spec, w);
  EXPECT_TRUE(
      matrix.starts_with("invalid_argument: down: data must be aligned to the 4 bytes of a fp32 element, got "))
      << matrix;
  w = mlp.weights;
  w.bias_up.data = static_cast<const char*>(w.bias_up.data) + 2;
  EXPECT_TRUE(error_of(spec, w).starts_with("invalid_argument: bias_up: data must be aligned"));
}

TEST(Weights, ResolveFindsGateAndUpInEveryForm) {
  const test::Values values = uniform(5);
  for (const char* order : {"first", "last", "interleaved"}) {
    for (const Layout layout : {Layout::out_in, Layout::in_out, Layout::padded}) {
      for (const bool packed : {false, true}) {
        const MlpSpec spec = spec_of((std::string("geglu:5x7->3+bias,gate=") + order).c_str());
        const Mlp mlp(spec, values, layout, packed);
        const core::HiddenWeights h = core::resolve(spec, mlp.weights);
        for (std::int64_t r = 0; r < spec.d_hidden; ++r) {
          for (std::int64_t c = 0; c < spec.d_in; ++c) {
            const auto read = [&](const MatrixView& m) {
              return core::load(spec.dtype, m.data, r * m.row_stride + c * m.col_stride);
            };
            ASSERT_EQ(read(h.gate), values(Member::gate, r, c)) << order << packed;
            ASSERT_EQ(read(h.up), values(Member::up, r, c)) << order << packed;
          }
          ASSERT_EQ(core::load(spec.dtype, h.bias_gate.data, r * h.bias_gate.stride),
                    values(Member::bias_gate, r, 0));
          ASSERT_EQ(core::load(spec.dtype, h.bias_up.data, r * h.bias_up.stride), values(Member::bias_up, r, 0));
        }
        EXPECT_EQ(h.gate.rows, spec.d_hidden);
        EXPECT_EQ(h.up.cols, spec.d_in);
        EXPECT_EQ(h.bias_up.size, spec.d_hidden);
      }
    }
  }
}

TEST(Weights, ResolveLeavesAbsentPartsEmpty) {
  const Mlp plain(spec_of("gelu:5x7"), uniform());
  const core::HiddenWeights h = core::resolve(plain.spec(), plain.weights);
  EXPECT_EQ(h.gate.data, nullptr);
  EXPECT_EQ(h.bias_gate.data, nullptr);
  EXPECT_EQ(h.bias_up.data, nullptr);
  EXPECT_EQ(h.up.data, plain.weights.up.data);
  const Mlp packed(spec_of("geglu:5x7"), uniform(), Layout::out_in, true);
  EXPECT_EQ(core::resolve(packed.spec(), packed.weights).bias_gate.data, nullptr);
}

TEST(Weights, ByteRangesSpanTheirStrides) {
  const float data[64] = {};
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const core::ByteRange matrix = core::bytes_of(MatrixView{data, 3, 4, 10, 1}, DType::f32);
  EXPECT_EQ(matrix.begin, begin);
  EXPECT_EQ(matrix.end, begin + (2 * 10 + 3 + 1) * 4);
  const core::ByteRange vector = core::bytes_of(VectorView{data, 3, 5}, DType::bf16);
  EXPECT_EQ(vector.end - vector.begin, (2 * 5 + 1) * 2u);
  const core::ByteRange nothing = core::bytes_of(MatrixView{}, DType::f32);
  EXPECT_FALSE(nothing.overlaps(matrix));
  EXPECT_TRUE(matrix.overlaps(vector));
  EXPECT_FALSE(matrix.overlaps({matrix.end, matrix.end + 1}));
  EXPECT_FALSE(matrix.overlaps({begin - 1, begin}));
}

}  // namespace
}  // namespace fusedmlp
