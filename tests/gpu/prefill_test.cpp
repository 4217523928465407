// What cuda.sm90 takes and refuses, its tiles and its predictions, for a GPU that need not be here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "core/activation.h"
#include "core/kernel.h"
#include "core/numeric.h"
#include "core/sm_rates.h"
#include "cuda/sm90/activation.h"
#include "cuda/sm90/tiles.h"

namespace fusedmlp::cuda::sm90 {
namespace {

DeviceInfo h100() {
  DeviceInfo info;
  info.device = Device::cuda();
  info.name = "H100";
  info.cores = 132;
  info.compute_capability = 90;
  info.memory_bandwidth = 3.1e12;
  info.launch_seconds = core::kKernelGapSeconds;
  for (const DType dtype : {DType::bf16, DType::f16}) info.flops_per_core[static_cast<int>(dtype)] = 4096 * 1.98e9;
  return info;
}

const core::KernelEntry& entry() {
  for (const core::KernelEntry& kernel : core::cuda_kernels()) {
    if (std::string(kernel.name) == kName) return kernel;
  }
  throw std::logic_error("no cuda.sm90 in the table");
}

MlpSpec spec_of(const char* text) { return parse_spec(text).value(); }

TEST(Prefill, SaysWhatItDoesNotTake) {
  const MlpSpec spec = spec_of("geglu:768x3072,bf16");
  const DeviceInfo device = h100();
  EXPECT_EQ(entry().unsupported({spec, 1024, device, 1, false}), "");
  for (const int capability : {80, 89, 100, 120}) {
    DeviceInfo other = device;
    other.compute_capability = capability;
    EXPECT_EQ(entry().unsupported({spec, 1024, other, 1, false}), "needs a Hopper GPU (compute capability 9.0)");
  }
  EXPECT_EQ(entry().unsupported({spec_of("geglu:768x3072,fp32"), 1024, device, 1, false}), "bf16 and fp16 only");
  core::OperandLayout operands;
  operands.in_out = true;
  EXPECT_EQ(entry().unsupported({spec, 1024, device, 1, false, operands}), "reads weights that are [out, in]");
  operands = {};
  operands.alignment = 8;
  EXPECT_EQ(entry().unsupported({spec, 1024, device, 1, false, operands}),
            "needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got 8");
}

TEST(Prefill, WorkspaceIsTheHiddenOfATurn) {
  const DeviceInfo device = h100();
  EXPECT_EQ(entry().workspace_bytes({spec_of("geglu:768x3072,bf16"), 1000, device, 1, false}), 1000u * 3072 * 2);
  // Rows of the hidden are padded to 16 bytes.
  EXPECT_EQ(entry().workspace_bytes({spec_of("gelu:768x3071,fp16"), 10, device, 1, false}), 10u * 3072 * 2);
  // More tokens than half a gigabyte of hidden are taken in turns.
  EXPECT_EQ(entry().workspace_bytes({spec_of("geglu:768x4096,bf16"), 1 << 20, device, 1, false}), 512u << 20);
}

struct Timed {
  const char* spec;
  std::int64_t tokens;
  double microseconds;
};
// Measured on an H100 and (from 4096x14336 on) an H200 under load, in CUDA graphs with cold weights.
constexpr Timed kTimed[] = {
    {"geglu:768x3072,bf16", 8192, 167.9},     {"geglu:768x3072,bf16", 1024, 27.2},
    {"gelu:768x3072+bias,bf16", 8192, 131.9}, {"gelu:1024x4096+bias,bf16", 8192, 222.4},
    {"gelu:4096x4096+bias,bf16", 1024, 99.9}, {"swiglu:2048x768,bf16", 8192, 120.7},
    {"swiglu:4096x14336,bf16", 1024, 535},    {"swiglu:4096x14336,bf16", 8192, 4205},
    {"geglu:2048x16384,bf16", 8192, 2407},
};

TEST(Prefill, PredictionsLieWithinAFifthOfTheTimes) {
  const DeviceInfo device = h100();
  for (const Timed& timed : kTimed) {
    const double predicted = entry().predict({spec_of(timed.spec), timed.tokens, device, 1, false}).seconds * 1e6;
    EXPECT_NEAR(predicted / timed.microseconds, 1.0, 0.21) << timed.spec << ", " << timed.tokens << " tokens";
  }
}

TEST(Prefill, ChoosesTheTilesThatWereFastest) {
  const auto tile = [](std::int64_t m, std::int64_t n, std::int64_t k, bool gated) {
    return kTiles[choose({m, n, k, gated, gated, DType::bf16}, h100()).tile];
  };
  const TileShape many = tile(8192, 3072, 768, true);
  EXPECT_EQ(many.weights, 192);
  EXPECT_TRUE(many.turns);
  EXPECT_EQ(tile(1024, 3072, 768, true).consumers, 3);
  EXPECT_EQ(tile(8192, 14336, 4096, true).cluster, 2);
  EXPECT_EQ(tile(1024, 768, 3072, false).m, 64);
  const TileShape epilogue_bound = kTiles[choose({8192, 3072, 768, false, true, DType::bf16}, h100()).tile];
  EXPECT_EQ(epilogue_bound.consumers, 3);
}

// The forms as the kernel evaluates them, with exact exponentials: |f~ - f| <= eps max(|f|, 2^-8 |x|), the rule for
// fast activations, over every value of the storage type that is not infinite.
TEST(Prefill, FastActivationsKeepTheNumericRule) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const Activation activation :
         {Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu, Activation::silu}) {
      MlpSpec spec = spec_of("gelu:8x8,bf16");
      spec.activation = activation;
      spec.dtype = dtype;
      const FastActivation f = fast_activation(spec);
      ASSERT_EQ(f.shape, Shape::logistic);
      double worst = 0;
      for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const double x = dtype == DType::bf16 ? core::bf16_to_float(half) : core::f16_to_float(half);
        if (!std::isfinite(x)) continue;
        const double t = std::min(x * x, 36.0);
        double p = 0;
        for (int i = dtype == DType::f16 ? 4 : 2; i >= 0; --i) p = p * t + static_cast<double>(f.p[i]);
        const double fast = x / (1 + std::exp2(x * p));
        const double exact = core::activate(activation, x);
        const double scale = std::max(std::abs(exact), 0x1p-8 * std::abs(x));
        if (scale > 0) worst = std::max(worst, std::abs(fast - exact) / scale);
      }
      EXPECT_LE(worst, epsilon(dtype)) << to_string(activation) << ", " << to_string(dtype);
      if (activation == Activation::gelu) {
        EXPECT_LE(worst, dtype == DType::bf16 ? 4.2e-4 : 9.2e-5);
      }
    }
  }
}

}  // namespace
}  // namespace fusedmlp::cuda::sm90
