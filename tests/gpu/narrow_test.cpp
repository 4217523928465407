// What cuda.narrow_sm90 and cuda.narrow take and refuse, their activations and predictions, for a GPU that need not
// be here; and on one, the seams between tiles, chunks of the hidden and rounds.
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "core/activation.h"
#include "core/kernel.h"
#include "core/numeric.h"
#include "cuda/narrow/narrow.h"
#include "gpu/cards.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"
#include "numerics/problem.h"

namespace fusedmlp::cuda::narrow {
namespace {

using test::Layout;

TEST(Narrow, SaysWhatItDoesNotTake) {
  DeviceInfo device = test::h200();
  for (const char* name : {kHopperName, kPortableName}) {
    const auto why = [&](const char* text, const core::OperandLayout& operands = {}) {
      return test::gpu_entry(name).unsupported({test::spec_of(text), 1024, device, 1, false, operands});
    };
    EXPECT_EQ(why("gelu:128x512+bias,bf16"), "");
    EXPECT_EQ(why("swiglu:256x70000->3,fp16"), "");
    EXPECT_EQ(why("gelu:128x512,fp32"), "bf16 and fp16 only");
    EXPECT_EQ(why("gelu:257x512->8,bf16"), "for inputs and outputs of up to 256 columns, got 257");
    EXPECT_EQ(why("gelu:8x512->264,bf16"), "for inputs and outputs of up to 256 columns, got 264");
    EXPECT_EQ(why("gelu:128x16,bf16"), "");
    EXPECT_EQ(why("gelu:128x15,bf16"), "for at least 16 hidden units, got 15");
    EXPECT_EQ(why("gelu:128x512,bf16", {.in_out = true}), "reads weights that are [out, in]");
    EXPECT_EQ(why("gelu:128x512,bf16", {.alignment = 8}),
              "needs addresses and row strides of x, y and weights that are multiples of 16 bytes, got 8");
  }
  device.compute_capability = 100;
  const MlpSpec spec = test::spec_of("gelu:128x512,bf16");
  EXPECT_EQ(test::gpu_entry(kHopperName).unsupported({spec, 64, device, 1, false}),
            "needs a Hopper GPU (compute capability 9.0)");
  EXPECT_EQ(test::gpu_entry(kPortableName).unsupported({spec, 64, device, 1, false}), "");
}

TEST(Narrow, TheHiddenIsNowhereStored) {
  const DeviceInfo device = test::h200();
  for (const char* name : {kHopperName, kPortableName}) {
    EXPECT_EQ(test::gpu_entry(name).workspace_bytes({test::spec_of("gelu:256x1024,bf16"), 1 << 20, device, 1, false}),
              0u);
  }
}

// Every entry for Hopper on every narrow MLP that was measured: how far predictions are off, and what the choice
// costs.
TEST(Narrow, IsChosenWhereItIsFaster) {
  std::ifstream file(FUSEDMLP_TEST_DATA "/gpu/narrow_mlps.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  rapidjson::Document document;
  ASSERT_FALSE(document.Parse(text.data(), text.size()).HasParseError());
  const DeviceInfo device = test::h200();
  std::vector<double> losses;
  double squares = 0;
  for (const auto& row : document["rows"].GetArray()) {
    const MlpSpec spec = test::spec_of(row[0].GetString());
    const core::Query query{spec, row[1].GetInt64(), device, 1, false};
    double best = 1e30, least = 1e30, taken = 0;
    for (const auto& [name, time] : row[2].GetObject()) {
      const double predicted = test::gpu_entry(name.GetString()).predict(query).seconds;
      best = std::min(best, time.GetDouble());
      if (predicted < least) least = predicted, taken = time.GetDouble();
      if (std::string_view(name.GetString()) != kHopperName) continue;
      const double off = std::log(predicted * 1e6 / time.GetDouble());
      squares += off * off;
    }
    losses.push_back(taken / best - 1);
  }
  ASSERT_GT(losses.size(), 60u);
  std::sort(losses.begin(), losses.end());
  EXPECT_LT(std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size()), 0.015);
  EXPECT_LT(losses[losses.size() * 9 / 10], 0.05);
  EXPECT_LT(std::sqrt(squares / static_cast<double>(losses.size())), 0.12);
}

TEST(Narrow, PredictionsGrowWithTheTokens) {
  const DeviceInfo device = test::h200();
  for (const char* name : {kHopperName, kPortableName}) {
    for (const char* text : {"gelu:128x512+bias,bf16", "swiglu:256x704,fp16", "relu:16x32,bf16"}) {
      double before = 0;
      for (std::int64_t tokens = 1; tokens < 1'000'000; tokens = 2 * tokens + 1) {
        const double now = test::gpu_entry(name).predict({test::spec_of(text), tokens, device, 1, false}).seconds;
        EXPECT_GE(now, before) << name << ", " << text << ", " << tokens;
        before = now;
      }
    }
  }
}

// The sigmoid-shaped forms as the kernels evaluate them, with exact exponentials.
template <Form kForm, bool kHalf>
double fast_form(const FastActivation& f, double x) {
  constexpr int kTop = kDegree<kForm, kHalf>;
  if constexpr (kTop == 0) return x / (1 + std::exp2(x * static_cast<double>(f.q[0])));
  const double a = std::abs(x);
  double q = static_cast<double>(f.q[kTop]);
  for (int i = kTop - 1; i >= 0; --i) q = q * a + static_cast<double>(f.q[i]);
  return (x + a * (1 - std::exp2(q))) / 2;
}

double fast_form(const FastActivation& f, bool half, double x) {
  switch (f.form) {
    case Form::normal: return half ? fast_form<Form::normal, true>(f, x) : fast_form<Form::normal, false>(f, x);
    case Form::tanh_normal:
      return half ? fast_form<Form::tanh_normal, true>(f, x) : fast_form<Form::tanh_normal, false>(f, x);
    default: return half ? fast_form<Form::logistic, true>(f, x) : fast_form<Form::logistic, false>(f, x);
  }
}

// |f~ - f| <= eps max(|f|, k |x|), the rule for fast activations, with half of eps and k = 2^-14 (fp16: 2^-11), over
// every value of the storage type that is not infinite.
TEST(Narrow, FastActivationsKeepTheNumericRule) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const bool half = dtype == DType::f16;
    for (const Activation activation : {Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu,
                                        Activation::silu, Activation::swiglu_oai}) {
      MlpSpec spec = test::spec_of("swiglu_oai:8x8,bf16");
      spec.activation = activation;
      spec.dtype = dtype;
      const FastActivation f = fast_activation(spec);
      double worst = 0;
      for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
        const auto stored = static_cast<std::uint16_t>(bits);
        const double x = half ? core::f16_to_float(stored) : core::bf16_to_float(stored);
        if (!std::isfinite(x)) continue;
        if (activation == Activation::swiglu_oai && x > static_cast<double>(spec.limit)) continue;
        const double fast = fast_form(f, half, x);
        const double exact = activation == Activation::swiglu_oai
                                 ? x * core::sigmoid(static_cast<double>(spec.alpha) * x)
                                 : core::activate(activation, x);
        const double scale = std::max(std::abs(exact), (half ? 0x1p-11 : 0x1p-14) * std::abs(x));
        if (scale > 0) worst = std::max(worst, std::abs(fast - exact) / scale);
      }
      EXPECT_LE(worst, epsilon(dtype) / 2) << to_string(activation) << ", " << to_string(dtype);
    }
  }
}

TEST(Narrow, FastActivationsKeepInfinities) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const char* text :
       {"gelu:8x8,bf16", "gelu_tanh:8x8,bf16", "silu:8x8,bf16", "gelu:8x8,fp16", "silu:8x8,fp16"}) {
    const MlpSpec spec = test::spec_of(text);
    const FastActivation f = fast_activation(spec);
    EXPECT_EQ(fast_form(f, spec.dtype == DType::f16, inf), inf) << text;
    EXPECT_TRUE(std::isnan(fast_form(f, spec.dtype == DType::f16, -inf))) << text;  // -inf s(-inf) = -inf * 0
  }
}

// Sizes on either side of every edge: widths of the kernels, chunks of the hidden, weights that stay in shared memory
// and weights that do not, rows of a tile.
TEST(NarrowSeams, WidthsAndChunks) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  Layout layout;
  layout.aligned = true;
  std::uint64_t seed = 40;
  for (const char* form : {"gelu", "swiglu"}) {
    for (const char* dtype : {"bf16", "fp16"}) {
      for (const int width : {1, 63, 64, 65, 128, 129, 192, 193, 256}) {
        for (const int hidden : {16, 64, 127, 129, 200, 640}) {
          const int other = static_cast<int>(seed % 3) * 41 + 1;
          const bool in = seed % 2 == 0;
          MlpSpec spec = test::spec_of(std::string(form) + ":8x" + std::to_string(hidden) + "+bias," + dtype);
          spec.d_in = in ? width : std::min(width, other);
          spec.d_out = in ? std::min(width, other) : width;
          const std::int64_t tokens = 1 + static_cast<std::int64_t>(seed * 29 % 131);
          test::expect_accurate(spec, test::make_values(spec, tokens, test::Data::normal, ++seed), layout, tokens);
          if (HasFailure()) return;
        }
      }
    }
  }
}

// A token's result is the same wherever it lies: in which round, in which warpgroup's tile, in a tile of how many.
TEST(NarrowSeams, ManyTokensEqualFew) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  for (const char* text :
       {"gelu:64x128+bias,bf16", "gelu:128x512+bias,bf16", "silu:192x304+bias,fp16", "gelu:256x520+bias,bf16",
        "swiglu:128x200+bias,fp16", "swiglu:192x200+bias,bf16", "swiglu:256x264+bias,bf16"}) {
    SCOPED_TRACE(text);
    const MlpSpec spec = test::spec_of(text);
    constexpr std::int64_t kMost =
        132 * 64 * 7 + 37;  // eight tiles for the busiest SM of an H100: three rounds or four
    const test::Resident problem(spec, test::make_values(spec, kMost, test::Data::normal, 11), kMost);
    for (const char* kernel : {kHopperName, kPortableName}) {
      const std::vector<std::string> all = test::gpu_kernels(spec, kMost);
      if (std::find(all.begin(), all.end(), kernel) == all.end()) continue;
      SCOPED_TRACE(kernel);
      const test::Forced forced({Isa::generic, kernel, false, Device::cuda()});
      const Plan plan = problem.plan();
      const test::Stream stream;
      const auto run = [&](std::int64_t tokens, std::int64_t first) {
        problem.poison_y();
        test::expect_ok(plan.run(problem.args(tokens, stream, first)));
        EXPECT_EQ(stream.wait(), "");
        return problem.y(kMost);
      };
      for (const std::int64_t tokens :
           {kMost, std::int64_t{132 * 64 + 1}, std::int64_t{132 * 128 + 64}, std::int64_t{132 * 192 + 64}}) {
        const std::vector<std::byte> many = run(tokens, 0);
        for (const std::int64_t first : {std::int64_t{0}, std::int64_t{63}, tokens / 2, tokens - 70}) {
          const std::vector<std::byte> few = run(70, first);
          const auto begin = static_cast<std::ptrdiff_t>(problem.y_bytes(first));
          const auto end = static_cast<std::ptrdiff_t>(problem.y_bytes(first + 70));
          EXPECT_TRUE(std::equal(many.begin() + begin, many.begin() + end, few.begin() + begin))
              << tokens << " tokens, rows from " << first;
        }
      }
    }
  }
}

// Several rounds, in which the inputs of the next one arrive early while weights and inputs are in L2: all of it,
// again and again, equals runs of one tile an SM.
TEST(NarrowSeams, EveryRoundEqualsTheFirst) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  const std::int64_t round = describe(Device::cuda())->cores * 64;
  const std::int64_t tokens = 8 * round - 1000;
  for (const char* text :
       {"gelu:128x512+bias,bf16", "swiglu:128x512+bias,bf16", "gelu:64x256+bias,fp16", "relu:256x1024+bias,bf16"}) {
    SCOPED_TRACE(text);
    const MlpSpec spec = test::spec_of(text);
    const test::Resident problem(spec, test::make_values(spec, tokens, test::Data::normal, 13), tokens,
                                 {.aligned = true});
    for (const char* kernel : {kHopperName, kPortableName}) {
      const std::vector<std::string> all = test::gpu_kernels(spec, tokens);
      if (std::find(all.begin(), all.end(), kernel) == all.end()) continue;
      SCOPED_TRACE(kernel);
      const test::Forced forced({Isa::generic, kernel, false, Device::cuda()});
      const Plan plan = problem.plan();
      const test::Stream stream;
      problem.poison_y();
      for (std::int64_t first = 0; first < tokens; first += round) {
        test::expect_ok(plan.run(problem.args(std::min(round, tokens - first), stream, first)));
      }
      EXPECT_EQ(stream.wait(), "");
      const std::vector<std::byte> expected = problem.y(tokens);
      int wrong = 0;
      for (int i = 0; i < 10; ++i) {
        problem.poison_y();
        for (int again = 0; again < 2; ++again) test::expect_ok(plan.run(problem.args(tokens, stream)));
        EXPECT_EQ(stream.wait(), "");
        wrong += problem.y(tokens) == expected ? 0 : 1;
      }
      EXPECT_EQ(wrong, 0);
    }
  }
}

// Small enough for racecheck: tiles for every warpgroup of a block, and weights that go round the ring more than
// once.
// Rows beyond an int.
TEST(Narrow, LeavesTwoBillionTokensToOthers) {
  const DeviceInfo device = test::h200();
  const MlpSpec spec = test::spec_of("gelu:8x128,bf16");
  for (const std::int64_t tokens : {std::int64_t{1} << 20, (std::int64_t{1} << 31) + 64}) {
    const core::Query query{spec, tokens, device, 1, false};
    EXPECT_EQ(test::gpu_entry(kHopperName).unsupported(query).empty(), tokens < 1 << 30) << tokens;
  }
}

TEST(NarrowSeams, WrappedRings) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  for (const char* text :
       {"gelu:64x1024+bias,bf16", "gelu:128x512+bias,bf16", "gelu:256x264+bias,bf16", "swiglu:256x264+bias,fp16"}) {
    const MlpSpec spec = test::spec_of(text);
    const DeviceInfo device = *describe(Device::cuda());
    const std::int64_t tokens = device.cores * 128 + 70;
    const test::Resident problem(spec, test::make_values(spec, tokens, test::Data::normal, 12), tokens,
                                 {.aligned = true});
    const std::vector<std::string> all = test::gpu_kernels(spec, tokens);
    std::vector<std::vector<std::byte>> results;
    for (const char* kernel : {kHopperName, kPortableName}) {
      if (std::find(all.begin(), all.end(), kernel) == all.end()) continue;
      SCOPED_TRACE(std::string(text) + ", " + kernel);
      const test::Forced forced({Isa::generic, kernel, false, Device::cuda()});
      const Plan plan = problem.plan();
      const test::Stream stream;
      for (int i = 0; i < 2; ++i) {
        problem.poison_y();
        test::expect_ok(plan.run(problem.args(tokens, stream)));
        EXPECT_EQ(stream.wait(), "");
        results.push_back(problem.y(tokens));
      }
      EXPECT_EQ(results.back(), results[results.size() - 2]);
    }
  }
}

}  // namespace
}  // namespace fusedmlp::cuda::narrow
