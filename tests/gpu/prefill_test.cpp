// What cuda.sm90 takes and refuses, its tiles and its predictions, for a GPU that need not be here.
#include <gtest/gtest.h>

#include <rapidjson/document.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "core/activation.h"
#include "core/kernel.h"
#include "core/numeric.h"
#include "cuda/common/fast_activation.h"
#include "cuda/sm90/split.h"
#include "gpu/cards.h"
#include "gpu/exact_products.h"
#include "gpu/measured_plans.h"

namespace fusedmlp::cuda::sm90 {
namespace {

const core::KernelEntry& entry() { return test::gpu_entry(kName); }

TEST(Prefill, SaysWhatItDoesNotTake) {
  const MlpSpec spec = test::spec_of("geglu:768x3072,bf16");
  const DeviceInfo device = test::h200();
  EXPECT_EQ(entry().unsupported({spec, 1024, device, 1, false}), "");
  for (const int capability : {80, 89, 100, 120}) {
    DeviceInfo other = device;
    other.compute_capability = capability;
    EXPECT_EQ(entry().unsupported({spec, 1024, other, 1, false}), "needs a Hopper GPU (compute capability 9.0)");
  }
  EXPECT_EQ(entry().unsupported({test::spec_of("geglu:768x3072,fp32"), 1024, device, 1, false}),
            "bf16 and fp16 only");
  EXPECT_EQ(entry().unsupported({test::spec_of("geglu:768x3072->1001,bf16"), 1024, device, 1, false}),
            "needs a d_out that is a multiple of 8, got 1001");
  core::OperandLayout operands;
  operands.in_out = true;
  EXPECT_EQ(entry().unsupported({spec, 1024, device, 1, false, operands}), "reads weights that are [out, in]");
  operands = {};
  operands.alignment = 8;
  EXPECT_EQ(entry().unsupported({spec, 1024, device, 1, false, operands}),
            "needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got 8");
}

TEST(Prefill, WorkspaceIsTheHiddenOfATurn) {
  const DeviceInfo device = test::h200();
  EXPECT_EQ(entry().workspace_bytes({test::spec_of("geglu:768x3072,bf16"), 1000, device, 1, false}),
            1000u * 3072 * 2);
  // Rows of the hidden are padded to 16 bytes.
  EXPECT_EQ(entry().workspace_bytes({test::spec_of("gelu:768x3071,fp16"), 10, device, 1, false}), 10u * 3072 * 2);
  // More tokens than half a gigabyte of hidden are taken in turns.
  EXPECT_EQ(entry().workspace_bytes({test::spec_of("geglu:768x4096,bf16"), 1 << 20, device, 1, false}), 512u << 20);
}

// Every tile on every product that was measured: how far predictions are off, and what the chosen tile costs. What
// has got faster since is not counted: splits, and tiles whose last columns were partial.
TEST(Prefill, ChoosesTilesAsMeasured) {
  std::ifstream file(FUSEDMLP_TEST_DATA "/gpu/sm90_products.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  rapidjson::Document document;
  ASSERT_FALSE(document.Parse(text.data(), text.size()).HasParseError());
  const DeviceInfo device = test::h200();
  std::vector<double> losses;
  double squares = 0, counted = 0;
  for (const auto& row : document["rows"].GetArray()) {
    const std::string form = row[0].GetString();
    const Product p{row[1].GetInt64(), row[2].GetInt64(), row[3].GetInt64(), form == "gated",
                    form != "down",    DType::bf16,       form == "down"};
    ASSERT_EQ(row[4].Size(), kTileCount + kSplitCount);
    double best = 1e30;
    for (const auto& time : row[4].GetArray()) best = time.IsNull() ? best : std::min(best, time.GetDouble());
    const Choice choice = choose(p, device);
    const int index = choice.split < 0 ? choice.tile : kTileCount + choice.split;
    const auto& time = row[4][static_cast<rapidjson::SizeType>(index)];
    if (time.IsNull()) continue;
    const double taken = time.GetDouble();
    losses.push_back(taken / best - 1);
    const double off = std::log(choice.seconds * 1e6 / taken);
    if (p.m >= 256) squares += off * off, ++counted;
  }
  ASSERT_GT(losses.size(), 120u);
  std::sort(losses.begin(), losses.end());
  EXPECT_LT(std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size()), 0.02);
  EXPECT_LT(losses[losses.size() * 9 / 10], 0.04);
  EXPECT_LT(std::sqrt(squares / counted), 0.10);
}

// Pairs of products timed on an H200 as lab/sm90/plans.cpp does it, most with those of an MLP interleaved and shorter
// pauses. Between multiples of 256 tokens tiles fit less well, and choosing is harder, as it is below 256, where
// cuda.cluster takes most MLPs.
TEST(PrefillPairs, AreChosenAsMeasured) {
  const DeviceInfo device = test::h200();
  std::ifstream file(FUSEDMLP_TEST_DATA "/gpu/sm90_pairs.txt");
  ASSERT_TRUE(file) << "tests/data/gpu/sm90_pairs.txt";
  test::MeasuredPlans few, more, multiples;
  std::string text, word, order;
  std::int64_t tokens = 0;
  while (file >> text >> tokens) {
    Choice up, down;
    int index = 0;
    double us = 0;
    file >> word >> up.tile >> word >> index >> order >> us;
    ASSERT_TRUE(file) << "a line ends early";
    (index < kTileCount ? down.tile : down.split) = index < kTileCount ? index : index - kTileCount;
    down.overlaps = order == "overlaps";
    const double predicted = predicted_seconds(test::spec_of(text), tokens, up, down, device);
    (tokens < 256 ? few : more).add(text, tokens, us * 1e-6, predicted);
    if (tokens % 256 == 0) multiples.add(text, tokens, us * 1e-6, predicted);
  }
  few.expect(30, 0.10, 0.02, 0.08);
  more.expect(187, 0.06, 0.01, 0.08);
  multiples.expect(89, 0.05, 0.01, 0.08);
}

// A first product has no split, whatever its activation.
TEST(Prefill, OnlySecondProductsAreSplit) {
  for (const std::int64_t k : {512, 2048, 4096, 14336}) {
    for (std::int64_t m = 64; m <= 512; m += 64) {
      const Product p{m, 512, k, false, false, DType::bf16, false};
      EXPECT_GE(choose(p, test::h200()).tile, 0) << m << " x 512 x " << k;
    }
  }
}

double fast_form(const FastActivation& f, DType dtype, double x) {
  if (f.shape == ActivationShape::normal) {
    const double h = x / 2, a = std::abs(h);
    double q = 0;
    for (int i = dtype == DType::f16 ? 5 : 3; i >= 0; --i) q = q * a + static_cast<double>(f.p[i]);
    return h + a * (1 - std::exp2(q));
  }
  const double t = std::min(x * x, 36.0);
  double p = 0;
  for (int i = dtype == DType::f16 ? 4 : 2; i >= 0; --i) p = p * t + static_cast<double>(f.p[i]);
  return x / (1 + std::exp2(x * p));
}

// The forms as the kernel evaluates them, with exact exponentials: |f~ - f| <= eps max(|f|, 2^-8 |x|), the rule for
// fast activations, over every value of the storage type that is not infinite.
TEST(Prefill, FastActivationsKeepTheNumericRule) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const char* text :
         {"gelu:64x16", "gelu:8x16", "geglu:8x8", "gelu_tanh:8x8", "quick_gelu:8x8", "swiglu:8x8"}) {
      MlpSpec spec = test::spec_of(text);
      spec.dtype = dtype;
      const FastActivation f = fast_activation(spec);
      const bool normal =
          text == std::string("gelu:64x16") || (text == std::string("gelu:8x16") && dtype == DType::f16);
      ASSERT_EQ(f.shape, normal ? ActivationShape::normal : ActivationShape::logistic);
      double worst = 0;
      for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const double x = dtype == DType::bf16 ? core::bf16_to_float(half) : core::f16_to_float(half);
        if (!std::isfinite(x)) continue;
        const double fast = fast_form(f, dtype, x);
        const double exact = core::activate(spec.activation, x);
        const double scale = std::max(std::abs(exact), 0x1p-8 * std::abs(x));
        if (scale > 0) worst = std::max(worst, std::abs(fast - exact) / scale);
      }
      EXPECT_LE(worst, epsilon(dtype)) << text << ", " << to_string(dtype);
      if (spec.activation == Activation::gelu) {
        const double bf16 = normal ? 1.5e-3 : 4.2e-4, f16 = normal ? 6e-5 : 9.2e-5;
        EXPECT_LE(worst, dtype == DType::bf16 ? bf16 : f16);
      }
    }
  }
}

// Every tile and split, rows and columns that end within one and k within a block, on integers that all kernels must
// get right to the bit.
TEST(Prefill, EveryTileAndSplitIsExact) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  if (device.compute_capability != 90) GTEST_SKIP() << "not Hopper";
  for (const char* text : {"reglu:552x760->200+bias,bf16", "relu:1160x552->328+bias,fp16"}) {
    const MlpSpec spec = test::spec_of(text);
    const bool bf16 = spec.dtype == DType::bf16;
    for (int index = 0; index < kTileCount + kSplitCount; ++index) {
      const bool splits = index >= kTileCount;
      if (!splits && kTiles[index].gated != spec.gated && kTiles[index].gated) continue;
      for (const std::int64_t tokens : {1, 61, 131, 253, 300, 320}) {
        const int ctas = tokens == 300 ? 3 : device.cores;  // several tiles each, whole ones behind partial ones
        test::expect_exact_products(
            spec, tokens, splits ? describe(kSplits[index - kTileCount]) : describe(kTiles[index]),
            [&](const cuda::TwoGemms& products, cudaStream_t stream) {
              GemmCall up{products.hidden, fast_activation(spec), spec.gated ? 0 : 6, ctas, true, false};
              if (!splits && kTiles[index].gated == spec.gated) up.tile = index;
              draw_weights(up, products.out);
              GemmCall down{products.out, {}, 6, ctas, tokens != 131, true};
              if (!splits && !kTiles[index].gated) down.tile = index;
              Status status = bf16 ? (spec.gated ? gemm_bf16_gated(up, stream) : gemm_bf16(up, stream))
                                   : (spec.gated ? gemm_f16_gated(up, stream) : gemm_f16(up, stream));
              if (!status) return status;
              if (!splits) return bf16 ? gemm_bf16(down, stream) : gemm_f16(down, stream);
              const int split = index - kTileCount;
              return bf16 ? split_bf16(down, split, stream) : split_f16(down, split, stream);
            });
      }
    }
  }
}

}  // namespace
}  // namespace fusedmlp::cuda::sm90
