// The AMX drivers: layout, offsets, edges, blocking and division among threads, on a model of the tile instructions.
// Sparse small integers make every value exact, so the result is the layer-by-layer reference's to the bit.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/cost_model.h"
#include "core/execute.h"
#include "core/numeric.h"
#include "cpu/amx_driver.h"
#include "cpu/drivers.h"
#include "cpu/thread_pool.h"
#include "reference/reference.h"
#include "unit/amx_model.h"

namespace fusedmlp::cpu {
namespace {

TEST(AmxStrip, PairsOfTilesFollowEachOtherAndFillTheStrip) {
  for (std::int64_t rows = 1; rows < 140; ++rows) {
    const AmxStrip strip{nullptr, rows, 5};
    std::int64_t next = 0, seen = 0;
    for (std::int64_t pair = 0; pair < strip.pairs(); ++pair) {
      for (std::int64_t k = 0; k < 5; ++k) {
        EXPECT_EQ(strip.at(pair, k) - strip.tiles, next);
        next += strip.tiles_in_pair(pair) * kTileBytes;
      }
      seen += strip.rows_in_pair(pair);
      EXPECT_LE(strip.rows_in_pair(pair), strip.tiles_in_pair(pair) * kTileHeight);
    }
    EXPECT_EQ(seen, rows);
    EXPECT_EQ(static_cast<std::size_t>(next), strip_bytes(rows, 5 * kTileK));
  }
}

TEST(AmxStrip, PackingPutsEveryValueInItsTileAndZerosBeyondK) {
  for (const std::int64_t k : {1, 31, 32, 33, 96, 127}) {
    for (const std::int64_t rows : {1, 15, 16, 17, 47, 65}) {
      const std::int64_t ld = k + 3;
      std::vector<std::uint16_t> x(static_cast<std::size_t>(rows * ld));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint16_t>(i + 1);
      core::AlignedBuffer buffer(strip_bytes(rows, k));
      std::memset(buffer.data(), 0xff, buffer.size());
      const AmxStrip strip{static_cast<std::byte*>(buffer.data()), rows, ceil_div(k, kTileK)};
      const std::int64_t tiles = ceil_div(rows, kTileHeight);
      pack_strip(reinterpret_cast<const std::byte*>(x.data()), ld * 2, k, strip, 0, tiles / 2);
      pack_strip(reinterpret_cast<const std::byte*>(x.data()), ld * 2, k, strip, tiles / 2, tiles);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < strip.k_tiles * kTileK; ++i) {
          const std::byte* tile = strip.at(r / kPairRows, i / kTileK) + r % kPairRows / kTileHeight * kTileBytes;
          std::uint16_t got = 0;
          std::memcpy(&got, tile + (r % kTileHeight * kTileK + i % kTileK) * 2, 2);
          ASSERT_EQ(got, i < k ? x[static_cast<std::size_t>(r * ld + i)] : 0) << r << ", " << i;
        }
      }
    }
  }
}

// An MLP of small integers and what the reference makes of it.
struct Case {
  Case(const MlpSpec& s, std::int64_t rows, unsigned seed) : spec(s), tokens(rows), ldx(s.d_in + 2) {
    std::mt19937 random(seed);
    const auto fill = [&](std::int64_t n, int zeros) {
      std::vector<std::uint16_t> out(static_cast<std::size_t>(n));
      for (std::uint16_t& v : out) {
        const int value = static_cast<int>(random() % static_cast<unsigned>(zeros));
        v = core::float_to_bf16(value == 0 ? 1.0f : value == 1 ? -1.0f : 0.0f);
      }
      return out;
    };
    x = fill(tokens * ldx, 3);
    const int sparse = static_cast<int>(std::max<std::int64_t>(3, spec.d_in));
    gate = fill(spec.d_hidden * spec.d_in, sparse);
    up = fill(spec.d_hidden * spec.d_in, sparse);
    down = fill(spec.d_out * spec.d_hidden, static_cast<int>(std::max<std::int64_t>(3, spec.d_hidden / 4)));
    bias_gate = fill(spec.d_hidden, 3);
    bias_up = fill(spec.d_hidden, 3);
    bias_down = fill(spec.d_out, 3);
    if (spec.gated) weights.gate = {gate.data(), spec.d_hidden, spec.d_in, spec.d_in, 1};
    weights.up = {up.data(), spec.d_hidden, spec.d_in, spec.d_in, 1};
    weights.down = {down.data(), spec.d_out, spec.d_hidden, spec.d_hidden, 1};
    if (spec.bias_gate) weights.bias_gate = {bias_gate.data(), spec.d_hidden, 1};
    if (spec.bias_up) weights.bias_up = {bias_up.data(), spec.d_hidden, 1};
    if (spec.bias_down) weights.bias_down = {bias_down.data(), spec.d_out, 1};
    std::vector<double> y(static_cast<std::size_t>(tokens * spec.d_out));
    core::reference_f64(spec, weights, x.data(), ldx, y.data(), 0, tokens);
    for (const double v : y) want.push_back(core::float_to_bf16(static_cast<float>(v)));
  }

  enum class Driver { rows, columns };

  std::vector<std::uint16_t> run(Driver driver, const AmxBlocking& blocking, bool pack, Executor& executor) const {
    const DeviceInfo device;
    const PackedShape shape(spec, kAmxLanes);
    core::AlignedBuffer packed(pack ? shape.total : 0);
    if (pack) pack_weights(shape, static_cast<std::byte*>(packed.data()));
    const core::Query query{spec, tokens, device, executor.concurrency(), pack};
    const bool by_rows = driver == Driver::rows;
    const std::size_t bytes = by_rows ? amx_rows_bytes(blocking, query) : amx_columns_bytes(blocking, query);
    core::AlignedBuffer workspace(bytes + 64);
    std::memset(workspace.data(), 0xff, workspace.size());  // NaN: dirty scratch must not matter
    std::vector<std::uint16_t> y(static_cast<std::size_t>(tokens * spec.d_out), 0xffff);
    RunArgs args;
    args.x = x.data();
    args.ldx = ldx;
    args.y = y.data();
    args.ldy = spec.d_out;
    args.tokens = tokens;
    args.workspace = workspace.data();
    args.executor = &executor;
    const core::Problem problem{spec, weights, pack ? packed.data() : nullptr};
    (by_rows ? run_amx_rows : run_amx_columns)(modelled_amx_kernels(), blocking, query, problem, args);
    const auto* end = static_cast<const std::byte*>(workspace.data()) + bytes;
    for (int i = 0; i < 64; ++i) EXPECT_EQ(end[i], std::byte{0xff}) << "written beyond the workspace";
    return y;
  }

  void pack_weights(const PackedShape& shape, std::byte* to) const {
    const core::HiddenWeights hidden = core::resolve(spec, weights);
    const PanelSource first = PanelSource::hidden(spec, hidden, nullptr, shape, kAmxLanes);
    const PanelSource second = PanelSource::down(spec, weights.down, nullptr, shape, kAmxLanes);
    for (std::int64_t p = 0; p < shape.hidden_panels; ++p) {
      first.make(p, 0, spec.d_in, to + static_cast<std::size_t>(p) * shape.hidden_panel_bytes);
    }
    for (std::int64_t p = 0; p < shape.down_panels; ++p) {
      second.make(p, 0, spec.d_hidden,
                  to + shape.down_weights + static_cast<std::size_t>(p) * shape.down_panel_bytes);
    }
    make_hidden_bias(spec, hidden, shape, kAmxLanes, reinterpret_cast<float*>(to + shape.hidden_bias));
    make_down_bias(spec, weights.bias_down, shape, kAmxLanes, reinterpret_cast<float*>(to + shape.down_bias));
  }

  MlpSpec spec;
  std::int64_t tokens;
  std::int64_t ldx;
  std::vector<std::uint16_t> x, gate, up, down, bias_gate, bias_up, bias_down;
  MlpWeights weights;
  std::vector<std::uint16_t> want;
};

class AmxDrivers : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "the model's vector code needs AVX2";
  }
};

TEST_P(AmxDrivers, AreExactForAnyShapeBlockingAndNumberOfThreads) {
  constexpr AmxBlocking kBlockings[] = {
      {32, 32, 32, 64}, {64, 96, 64, 32}, {256, 768, 768, 768}, {64, 64, 32, 96}, {96, 1024, 64, 32}};
  struct Shape {
    std::int64_t d_in, d_hidden, d_out;
  };
  constexpr Shape kShapes[] = {{1, 1, 1}, {3, 5, 2}, {32, 32, 32}, {65, 17, 127}, {33, 129, 31}, {40, 208, 70}};
  constexpr std::int64_t kTokens[] = {1, 5, 15, 16, 17, 31, 32, 33, 48, 50, 65, 97, 130};
  unsigned seed = 1;
  for (const int threads : {1, 2, 5}) {
    const std::unique_ptr<Executor> pool = make_thread_pool(threads);
    for (const Shape& shape : kShapes) {
      for (const std::int64_t tokens : kTokens) {
        const AmxBlocking& blocking = kBlockings[seed % std::size(kBlockings)];
        MlpSpec spec;
        spec.dtype = DType::bf16;
        spec.d_in = shape.d_in;
        spec.d_hidden = shape.d_hidden;
        spec.d_out = shape.d_out;
        spec.gated = GetParam();
        spec.activation = Activation::relu;
        spec.bias_gate = spec.gated && seed % 3 == 0;
        spec.bias_up = seed % 2 == 0;
        spec.bias_down = seed % 5 < 3;
        const Case problem(spec, tokens, seed++);
        for (const Case::Driver driver : {Case::Driver::rows, Case::Driver::columns}) {
          for (const bool pack : {true, false}) {
            ASSERT_EQ(problem.run(driver, blocking, pack, *pool), problem.want)
                << to_string(spec) << ", tokens " << tokens << ", threads " << threads << ", blocking "
                << blocking.rows << " " << blocking.hidden << " " << blocking.down_k << ", by "
                << (driver == Case::Driver::rows ? "rows" : "columns") << (pack ? ", packed" : "");
          }
        }
      }
    }
  }
}

// Sums of reals depend on their order, which is the same in whatever chunk a panel is computed: an odd number of
// pairs of rows, whose directions of k alternate, in parts that begin at odd and even panels.
TEST(AmxDriver, ColumnsHaveTheSameBitsOnAnyNumberOfThreads) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "the model's vector code needs AVX2";
  MlpSpec spec;
  spec.dtype = DType::bf16;
  spec.d_in = 160;
  spec.d_hidden = 416;
  spec.d_out = 352;
  for (const bool gated : {false, true}) {
    for (const std::int64_t tokens : {20, 70, 150}) {
      spec.gated = gated;
      Case problem(spec, tokens, 7);
      std::mt19937 random(11);
      for (auto* values : {&problem.x, &problem.gate, &problem.up, &problem.down}) {
        for (std::uint16_t& v : *values) v = core::float_to_bf16(static_cast<float>(random() % 2000) / 1000 - 1);
      }
      const auto run = [&](int threads) {
        return problem.run(Case::Driver::columns, {256, 128, 64, 96}, true, *make_thread_pool(threads));
      };
      const std::vector<std::uint16_t> want = run(1);
      for (const int threads : {2, 3, 7}) EXPECT_EQ(run(threads), want) << tokens << ", threads " << threads;
    }
  }
}

// An infinite x makes NaN of the columns that are only padding; the hidden's own are sigmoid(inf) = 1.
TEST(AmxDriver, PaddingDoesNotMeetAnInfiniteInput) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "the model's vector code needs AVX2";
  const std::unique_ptr<Executor> pool = make_thread_pool(2);
  for (const std::int64_t d_hidden : {5, 37, 64}) {
    MlpSpec spec;
    spec.dtype = DType::bf16;
    spec.d_in = 19;
    spec.d_hidden = d_hidden;
    spec.d_out = 21;
    spec.activation = Activation::sigmoid;
    Case problem(spec, 35, 3);
    std::fill(problem.up.begin(), problem.up.end(), core::float_to_bf16(1));
    problem.x[0] = core::float_to_bf16(std::numeric_limits<float>::infinity());
    for (const Case::Driver driver : {Case::Driver::rows, Case::Driver::columns}) {
      const std::vector<std::uint16_t> y = problem.run(driver, {32, 32, 32, 32}, true, *pool);
      for (std::int64_t o = 0; o < spec.d_out; ++o) {
        float want = 0;
        for (std::int64_t h = 0; h < d_hidden; ++h) {
          want += core::bf16_to_float(problem.down[static_cast<std::size_t>(o * d_hidden + h)]);
        }
        EXPECT_EQ(core::bf16_to_float(y[static_cast<std::size_t>(o)]), want) << d_hidden << ", " << o;
      }
    }
  }
}

// What dispatch would take on a machine with AMX, and why not elsewhere.
class AmxDispatch : public testing::Test {
 protected:
  static DeviceInfo machine(Isa isa) {
    DeviceInfo info;
    info.isa = isa;
    info.cores = 2;
    info.l2_bytes = std::size_t{2} << 20;
    info.l3_bytes = std::size_t{64} << 20;
    std::fill(std::begin(info.flops_per_core), std::end(info.flops_per_core), 180e9);
    if (isa == Isa::amx) info.tile_flops_per_core[static_cast<int>(DType::bf16)] = 2965e9;
    info.l2_bandwidth_per_core = 175e9;
    info.l3_bandwidth_per_core = 30e9;
    info.l3_bandwidth = 60e9;
    info.memory_bandwidth_per_core = 16e9;
    info.memory_bandwidth = 32e9;
    info.launch_seconds = 3e-6;
    return info;
  }
  static core::Prediction predict(const core::KernelEntry& entry, std::int64_t tokens) {
    static const DeviceInfo device = machine(Isa::amx);
    static const MlpSpec spec = *parse_spec("geglu:768x3072,bf16");
    return entry.predict({spec, tokens, device, 2, true});
  }
};

TEST_F(AmxDispatch, FewTokensAreDividedByColumnsAndManyByRows) {
  for (const std::int64_t tokens : {16, 64, 256}) {
    EXPECT_LT(predict(amx_columns_kernel(), tokens).seconds, predict(amx_rows_kernel(), tokens).seconds) << tokens;
  }
  EXPECT_EQ(predict(amx_columns_kernel(), 16).bound, core::Bound::memory);
  EXPECT_EQ(predict(amx_rows_kernel(), 1024).bound, core::Bound::compute);
}

TEST_F(AmxDispatch, WhatCannotRunSaysWhy) {
  const MlpSpec spec = *parse_spec("geglu:768x3072,bf16");
  DeviceInfo device = machine(Isa::avx512);
  EXPECT_EQ(unsupported_amx({spec, 1, device, 2, true}), "needs AMX: FUSEDMLP_ISA leaves it out");
  device.isa_note = "the CPU lacks it";
  EXPECT_EQ(unsupported_amx({spec, 1, device, 2, true}), "needs AMX: the CPU lacks it");
  const MlpSpec fp16 = *parse_spec("geglu:768x3072,fp16");
  device = machine(Isa::amx);
  EXPECT_EQ(unsupported_amx({fp16, 1, device, 2, true}), "bf16 only: AMX has no products of this type");
  EXPECT_EQ(unsupported_amx({spec, 1, device, 2, true}), "");
  EXPECT_EQ(amx_columns_kernel().unsupported({spec, 257, device, 2, true}),
            "for at most 256 tokens: the hidden would leave the caches");
}

TEST_F(AmxDispatch, PairProductsNeedTheirInstructionsAndNoAmx) {
  const MlpSpec spec = *parse_spec("geglu:768x3072,bf16");
  const char* const kNeeds = "needs AVX512-BF16, and is for CPUs without AMX";
  DeviceInfo device = machine(Isa::avx512);
  EXPECT_EQ(dot_rows_kernel().unsupported({spec, 1, device, 2, true}), kNeeds);
  device.tile_flops_per_core[static_cast<int>(DType::bf16)] = 360e9;
  EXPECT_EQ(dot_rows_kernel().unsupported({spec, 1, device, 2, true}), "");
  EXPECT_EQ(dot_columns_kernel().unsupported({spec, 257, device, 2, true}),
            "for at most 256 tokens: the hidden would leave the caches");
  EXPECT_EQ(amx_rows_kernel().unsupported({spec, 1, device, 2, true}), "needs AMX: FUSEDMLP_ISA leaves it out");
  const MlpSpec fp32 = *parse_spec("geglu:768x3072");
  EXPECT_EQ(dot_rows_kernel().unsupported({fp32, 1, device, 2, true}), "bf16 only: products of pairs of bf16");
  EXPECT_EQ(dot_columns_kernel().unsupported({spec, 1, machine(Isa::amx), 2, true}), kNeeds);
}

// They are taken where they multiply faster than fp32 does, as on AMD, and left where they are slower, as on Intel.
TEST_F(AmxDispatch, PairProductsAreTakenWhereTheyAreFaster) {
  const MlpSpec spec = *parse_spec("geglu:768x3072,bf16");
  DeviceInfo device = machine(Isa::avx512);
  for (const double rate : {360e9, 90e9}) {
    device.tile_flops_per_core[static_cast<int>(DType::bf16)] = rate;
    const core::Query query{spec, 1024, device, 2, true};
    // cpu.rows cannot predict here: its tables are made by code of that instruction set.
    const double widened = core::compute_seconds(spec, 1024, device, 2) / kProductEfficiency;
    EXPECT_EQ(dot_rows_kernel().predict(query).seconds<widened, rate> 180e9) << rate;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, AmxDrivers, testing::Bool(),
                         [](const auto& gated) { return std::string(gated.param ? "gated" : "plain"); });

}  // namespace
}  // namespace fusedmlp::cpu
