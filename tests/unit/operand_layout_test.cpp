// What kernels are told of the operands' layout.
#include <gtest/gtest.h>

#include "core/gpu_run.h"
#include "core/kernel.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp::core {
namespace {

const void* at(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

// 64 -> 128 -> 64 in bf16 at addresses that are multiples of 4096; nothing is read.
class Layout : public ::testing::Test {
 protected:
  Layout() {
    spec_.d_in = spec_.d_out = 64;
    spec_.d_hidden = 128;
    spec_.dtype = DType::bf16;
    weights_.up = MatrixView::out_in(at(0x10000), 128, 64);
    weights_.down = MatrixView::out_in(at(0x20000), 64, 128);
    args_.x = at(0x30000);
    args_.ldx = 64;
    args_.y = reinterpret_cast<void*>(std::uintptr_t{0x40000});
    args_.ldy = 64;
    args_.tokens = 3;
  }
  OperandLayout layout() const { return layout_of(spec_, weights_, args_); }

  MlpSpec spec_;
  MlpWeights weights_;
  RunArgs args_;
};

TEST_F(Layout, DenseAlignedOperandsAreTheBestCase) { EXPECT_EQ(layout(), OperandLayout()); }

TEST_F(Layout, OfDenseOperandsIsThatOfTheSpecAlone) {
  for (const std::int64_t width : {64, 4, 2, 1, 33, 72}) {
    for (std::int64_t MlpSpec::*dim : {&MlpSpec::d_in, &MlpSpec::d_hidden, &MlpSpec::d_out}) {
      spec_.d_in = spec_.d_out = 64;
      spec_.d_hidden = 128;
      spec_.*dim = width;
      weights_.up = MatrixView::out_in(at(0x10000), spec_.d_hidden, spec_.d_in);
      weights_.down = MatrixView::out_in(at(0x20000), spec_.d_out, spec_.d_hidden);
      args_.ldx = spec_.d_in;
      args_.ldy = spec_.d_out;
      EXPECT_EQ(dense_layout(spec_), layout()) << to_string(spec_);
    }
  }
}

TEST_F(Layout, AlignmentIsTheLeastOfAddressesAndStrides) {
  args_.x = at(0x30008);
  EXPECT_EQ(layout().alignment, 8);
  args_.ldx = 66;  // 132 bytes
  EXPECT_EQ(layout().alignment, 4);
  weights_.down.data = at(0x20002);
  EXPECT_EQ(layout().alignment, 2);
}

TEST_F(Layout, TheStrideOfOneRowDoesNotMatter) {
  args_.ldx = args_.ldy = 65;
  EXPECT_EQ(layout().alignment, 2);
  args_.tokens = 1;
  EXPECT_EQ(layout().alignment, 16);
}

TEST_F(Layout, InOutJoinedAndStridedBiasesAreSeen) {
  weights_.up = MatrixView::in_out(at(0x10000), 64, 128);
  EXPECT_TRUE(layout().in_out);
  EXPECT_EQ(layout().alignment, 16);
  weights_.bias_up = {at(0x50000), 128, 1};
  EXPECT_FALSE(layout().strided_biases);
  weights_.bias_up.stride = 2;
  EXPECT_TRUE(layout().strided_biases);
  EXPECT_FALSE(layout().joined);
  weights_.gate_up = MatrixView::out_in(at(0x60000), 256, 64);
  EXPECT_TRUE(layout().joined);
}

}  // namespace
}  // namespace fusedmlp::core
