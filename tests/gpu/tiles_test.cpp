// Tile choice and memory of cuda.portable, and what dispatch makes of the GPU's entries, for GPUs that need not be
// here.
#include "cuda/sm80/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "core/dispatch.h"
#include "core/sm_rates.h"
#include "gpu/cards.h"
#include "gpu/exact_products.h"

namespace fusedmlp::cuda::sm80 {
namespace {

struct Card {
  const char* name;
  int capability;
  int sms;
  double clock;
  double bandwidth;
  std::size_t shared_per_sm;
  std::size_t shared_per_block;
};

// NVIDIA's data sheets; shared memory by compute capability from the CUDA programming guide.
constexpr Card kCards[] = {{"A100", 80, 108, 1.41e9, 1.9e12, 164 << 10, 163 << 10},
                           {"RTX 3090", 86, 82, 1.70e9, 0.87e12, 100 << 10, 99 << 10},
                           {"L40S", 89, 142, 2.52e9, 0.80e12, 100 << 10, 99 << 10},
                           {"H100", 90, 132, 1.98e9, 3.1e12, 228 << 10, 227 << 10},
                           {"B200", 100, 148, 1.85e9, 7.4e12, 228 << 10, 227 << 10},
                           {"RTX 5090", 120, 170, 2.41e9, 1.67e12, 100 << 10, 99 << 10}};

DeviceInfo describe(const Card& card) {
  DeviceInfo info;
  info.device = Device::cuda();
  info.name = card.name;
  info.cores = card.sms;
  info.compute_capability = card.capability;
  info.l1_bytes = card.shared_per_sm;
  info.shared_memory_per_block = card.shared_per_block;
  info.memory_bandwidth = card.bandwidth;
  const core::SmRates& rates = core::sm_rates(card.capability);
  info.flops_per_core[static_cast<int>(DType::f32)] = 2 * rates.fp32 * card.clock;
  info.flops_per_core[static_cast<int>(DType::bf16)] = 2 * rates.half * card.clock;
  info.flops_per_core[static_cast<int>(DType::f16)] = 2 * rates.half * card.clock;
  info.launch_seconds = core::kKernelGapSeconds;
  return info;
}

TEST(Tiles, RingsFitSharedMemoryOfEveryGpu) {
  for (const Card& card : kCards) {
    for (const TileShape& tile : kTiles) {
      const int count = stages(tile, card.shared_per_sm, card.shared_per_block);
      EXPECT_GE(count, 2) << card.name << ", " << tile.m << " x " << tile.weight_rows;
      EXPECT_LE(count, tile.stages);
      const std::size_t biases = static_cast<std::size_t>(tile.weight_rows) * sizeof(float);
      EXPECT_LE(static_cast<std::size_t>(count) * stage_bytes(tile) + biases, card.shared_per_block) << card.name;
    }
  }
}

TEST(Tiles, StagesAreWhatABlocksShareOfSharedMemoryHolds) {
  const auto of = [](TileName tile, std::size_t shared_per_sm, std::size_t shared_per_block) {
    return stages(kTiles[static_cast<int>(tile)], shared_per_sm, shared_per_block);
  };
  EXPECT_EQ(of(TileName::medium, 228 << 10, 227 << 10), 4);  // 24 KiB a stage, two blocks of an SM: H100
  EXPECT_EQ(of(TileName::square, 228 << 10, 227 << 10), 3);  // 32 KiB a stage
  EXPECT_EQ(of(TileName::square, 164 << 10, 163 << 10), 2);  // A100
  EXPECT_EQ(of(TileName::square, 100 << 10, 99 << 10), 3);   // Ada: one block of an SM, as two had one stage each
  EXPECT_EQ(of(TileName::large, 228 << 10, 227 << 10), 4);   // 48 KiB a stage
  EXPECT_EQ(of(TileName::large, 100 << 10, 99 << 10), 2);
}

TEST(Tiles, FewRowsSplitKAndManyRowsTakeLargeTiles) {
  for (const Card& card : kCards) {
    const DeviceInfo device = describe(card);
    const GemmPlan few = choose({1, 768, 3072, false, DType::bf16}, device);
    EXPECT_GT(few.splits, 1) << card.name;
    EXPECT_NE(few.tile, TileName::large) << card.name;
    const GemmPlan many = choose({8192, 14336, 4096, true, DType::bf16}, device);
    EXPECT_EQ(many.splits, 1) << card.name;
    EXPECT_GE(static_cast<int>(many.tile), static_cast<int>(TileName::square)) << card.name;
  }
}

TEST(Tiles, TheWideTileIsForPlainProductsOnWeightsAlongK) {
  const DeviceInfo device = describe(kCards[3]);
  EXPECT_EQ(choose({1024, 3072, 768, false, DType::bf16}, device).tile, TileName::wide);
  for (const Card& card : kCards) {
    for (std::int64_t m = 64; m <= 4096; m += 64) {
      EXPECT_NE(choose({m, 3072, 768, true, DType::bf16}, describe(card)).tile, TileName::wide) << card.name;
      EXPECT_NE(choose({m, 3072, 768, false, DType::f16, false}, describe(card)).tile, TileName::wide) << card.name;
    }
  }
}

TEST(Tiles, SplitsStayWithinTheirMemory) {
  for (const Card& card : kCards) {
    const DeviceInfo device = describe(card);
    for (const std::int64_t m : {1, 7, 16, 64, 200, 1024, 5000}) {
      for (const std::int64_t n : {1, 100, 768, 28672}) {
        for (const std::int64_t k : {1, 64, 1000, 16384}) {
          for (const bool gated : {false, true}) {
            const GemmPlan plan = choose({m, n, k, gated, DType::f16}, device);
            EXPECT_LE(plan.splits, kMostSplits);
            if (plan.splits > 1) {
              EXPECT_LE(plan.splits * m * n * (gated ? 2 : 1), kMostPartials);
            }
          }
        }
      }
    }
    EXPECT_EQ(choose({1, 768, 3072, false, DType::f32}, device).splits, 1) << "fp32 has no splits";
  }
}

const core::KernelEntry& entry(std::string_view name) {
  for (const core::KernelEntry& candidate : core::kernels(DeviceType::cuda)) {
    if (candidate.name == name) return candidate;
  }
  ADD_FAILURE() << "no entry " << name;
  return core::kernels(DeviceType::cuda).back();
}

// A workspace that serves some tokens serves fewer.
TEST(Workspace, GrowsWithTheTokens) {
  const DeviceInfo device = describe(kCards[3]);
  for (const char* text : {"swiglu:4096x14336,bf16", "gelu:768x3072+bias,fp16", "geglu:130x70->33,fp32"}) {
    const MlpSpec spec = parse_spec(text).value();
    for (const core::KernelEntry& candidate : core::kernels(DeviceType::cuda)) {
      std::size_t before = 0;
      for (std::int64_t tokens = 1; tokens < 100'000; tokens += 1 + tokens / 3) {
        const std::size_t bytes = candidate.workspace_bytes({spec, tokens, device, 1, false});
        EXPECT_GE(bytes, before) << candidate.name << ", " << text << ", " << tokens;
        before = bytes;
      }
    }
  }
}

// Measured, in microseconds, cuda.portable's 16-bit products on an H200, the rest on an H100: the model keeps the
// entries in their order.
TEST(Predictions, LayerByLayerIsNeverTakenForFast) {
  DeviceInfo device = describe(kCards[3]);
  device.memory_bandwidth = 4.57e12;
  struct Case {
    const char* spec;
    std::int64_t tokens;
    double portable, layers;
  };
  constexpr Case kCases[] = {{"geglu_tanh:768x3072,bf16", 1, 11.6, 419},
                             {"geglu_tanh:768x3072,bf16", 64, 13.2, 472},
                             {"geglu_tanh:768x3072,bf16", 1024, 45.5, 858},
                             {"swiglu:4096x14336,bf16", 1, 91.8, 2203},
                             {"gelu:768x3072+bias,fp32", 1024, 503, 536}};
  for (const Case& c : kCases) {
    const MlpSpec spec = parse_spec(c.spec).value();
    const core::Query query{spec, c.tokens, device, 1, false};
    const double portable = entry("cuda.portable").predict(query).seconds * 1e6;
    const double layers = entry("cuda.layers").predict(query).seconds * 1e6;
    EXPECT_LT(portable, layers) << c.spec << ", " << c.tokens;
    EXPECT_NEAR(portable / c.portable, 1, 0.4) << c.spec << ", " << c.tokens << ": " << portable;
    EXPECT_NEAR(layers / c.layers, 1, 0.4) << c.spec << ", " << c.tokens << ": " << layers;
  }
}

TEST(Dispatch, TheTableEndsInLayers) {
  const auto table = core::kernels(DeviceType::cuda);
  ASSERT_FALSE(table.empty());
  EXPECT_STREQ(table.back().name, "cuda.layers");
  const DeviceInfo device = describe(kCards[0]);
  const MlpSpec spec = parse_spec("swiglu_oai:33x65->7+bias,fp16").value();
  EXPECT_EQ(table.back().unsupported({spec, 3, device, 1, false, {.alignment = 2, .in_out = true}}), "");
}

// Both products of an MLP with one tile, on a card with so much shared memory.
Status multiply_both(const MlpSpec& spec, const GemmPlan& plan, const Card& card, float* partial,
                     const TwoGemms& products, cudaStream_t stream) {
  GemmCall call;
  call.plan = plan;
  call.shared_per_sm = card.shared_per_sm;
  call.shared_per_block = card.shared_per_block;
  call.partial = partial;
  const auto multiply = [&] {
    if (spec.dtype == DType::bf16) return call.gated ? gemm_bf16_gated(call, stream) : gemm_bf16(call, stream);
    return call.gated ? gemm_f16_gated(call, stream) : gemm_f16(call, stream);
  };
  call.gemm = products.hidden;
  call.gated = spec.gated;
  if (call.gated && kTiles[static_cast<int>(plan.tile)].plain_along_k) call.plan.tile = TileName::square;
  call.activation = activation_args(spec);
  if (Status status = multiply(); !status) return status;
  call.gemm = products.out;
  call.gated = false;
  call.plan = plan;
  call.activation = {};
  return multiply();
}

void expect_exact(const char* text, std::int64_t tokens, const GemmPlan& plan, const Card& card, float* partial) {
  const MlpSpec spec = test::spec_of(text);
  test::expect_exact_products(spec, tokens,
                              std::string(card.name) + ", tile " + std::to_string(static_cast<int>(plan.tile)) +
                                  ", " + std::to_string(plan.splits) + " splits",
                              [&](const TwoGemms& products, cudaStream_t stream) {
                                return multiply_both(spec, plan, card, partial, products, stream);
                              });
}

// The card in this machine. The first launch of a kernel asks for as much shared memory as it has use for there.
Card own_card() {
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  return {"own",           device.compute_capability,     device.cores, 0, device.memory_bandwidth,
          device.l1_bytes, device.shared_memory_per_block};
}

// Every tile with k in parts, rows of whole fours, pairs and odd ones, on integers that all kernels must get right to
// the bit.
TEST(Tiles, EverySplitIsExact) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  const test::DeviceBuffer partial(kMostPartials * sizeof(float));
  for (const char* text : {"reglu:552x760->72+bias,bf16", "relu:1160x552->202+bias,fp16", "reglu:640x329->77,bf16"}) {
    for (int tile = 0; tile < kTileCount; ++tile) {
      for (const int splits : {2, 5}) {
        for (const std::int64_t tokens : {1, 61, 131}) {
          expect_exact(text, tokens, {static_cast<TileName>(tile), splits}, own_card(),
                       static_cast<float*>(partial.data()));
        }
      }
    }
  }
}

// Tiles that lie inside the operands beside one that does not, in rings as short as other cards' shared memory makes
// them.
TEST(Tiles, EveryRingIsExact) {
  if (!test::has_gpu()) GTEST_SKIP() << "no GPU";
  std::vector<Card> cards{own_card()};
  std::copy_if(std::begin(kCards), std::end(kCards), std::back_inserter(cards),
               [&](const Card& card) { return card.shared_per_block <= cards.front().shared_per_block; });
  const test::DeviceBuffer partial(kMostPartials * sizeof(float));
  for (const Card& card : cards) {
    for (int tile = 0; tile < kTileCount; ++tile) {
      for (const int splits : {1, 2}) {
        expect_exact("reglu:512x256+bias,bf16", 131, {static_cast<TileName>(tile), splits}, card,
                     static_cast<float*>(partial.data()));
      }
    }
  }
}

}  // namespace
}  // namespace fusedmlp::cuda::sm80
