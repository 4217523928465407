// The cuts of work for 1 to 256 threads, and that packing follows them.
#include "cpu/partition.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/device.h"
#include "cpu/drivers.h"
#include "cpu/isa_kernels.h"
#include "cpu/panels.h"
#include "unit/cpu_test_isas.h"
#include "unit/fixtures.h"

namespace fusedmlp::cpu {
namespace {

constexpr int kMostThreads = 256;
constexpr std::int64_t kUnits[] = {0,  1,  2,  3,   5,   7,   8,   12,  24,  31,  48,
                                   64, 65, 96, 127, 176, 192, 255, 256, 257, 1000};

TEST(Split, CoversEveryUnitOnceInOrder) {
  for (const std::int64_t units : kUnits) {
    for (int tasks = 1; tasks <= kMostThreads; ++tasks) {
      for (const std::int64_t group : {1, 2, 4}) {
        const Split split(units, tasks, group);
        std::int64_t next = 0;
        for (std::int64_t part = 0; part < split.parts(); ++part) {
          ASSERT_EQ(split[part].begin, next);
          ASSERT_GT(split[part].size(), 0) << units << " units, " << tasks << " tasks, part " << part;
          next = split[part].end;
        }
        ASSERT_EQ(next, units) << units << " units, " << tasks << " tasks, groups of " << group;
        ASSERT_EQ(split[split.parts()].size(), 0);
        ASSERT_EQ(split[kMostThreads].size(), 0);
      }
    }
  }
}

TEST(Split, NoTaskIsIdleAndNoneHasMoreThanItsShareRoundedUp) {
  for (const std::int64_t units : kUnits) {
    std::int64_t before = std::numeric_limits<std::int64_t>::max();
    for (int tasks = 1; tasks <= kMostThreads; ++tasks) {
      for (const std::int64_t group : {1, 2, 4}) {
        const Split split(units, tasks, group);
        ASSERT_EQ(split.parts(), std::min<std::int64_t>(units, tasks));
        std::int64_t largest = 0;
        for (std::int64_t part = 0; part < split.parts(); ++part) largest = std::max(largest, split[part].size());
        // The least that any cut of whole units can do: max / mean < 1 + tasks / units.
        ASSERT_EQ(largest, ceil_div(units, tasks)) << units << " units, " << tasks << " tasks, groups of " << group;
        ASSERT_EQ(split.largest(), largest);
        ASSERT_LE(largest, before) << "more tasks, larger parts";
      }
      before = Split(units, tasks).largest();
    }
  }
}

TEST(Split, CutsFallBetweenGroupsUnlessThatCostsBalance) {
  for (const std::int64_t units : kUnits) {
    for (int tasks = 1; tasks <= kMostThreads; ++tasks) {
      for (const std::int64_t group : {2, 4}) {
        const Split split(units, tasks, group);
        if (split.group() == group) {
          for (std::int64_t part = 0; part < split.parts(); ++part) ASSERT_EQ(split[part].begin % group, 0);
          continue;
        }
        ASSERT_EQ(split.group(), 1);
        const std::int64_t groups = ceil_div(units, group);
        const bool larger = ceil_div(groups, tasks) * group > ceil_div(units, tasks);
        const bool fewer = std::min<std::int64_t>(groups, tasks) < std::min<std::int64_t>(units, tasks);
        ASSERT_TRUE(larger || fewer) << units << " units, " << tasks << " tasks, groups of " << group;
      }
    }
  }
}

TEST(Split, HugeCountsDoNotOverflow) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 56;
  const Split split(kHuge, kHuge / 3, 4);
  EXPECT_EQ(split[kHuge / 3 - 1].end, kHuge);
  EXPECT_EQ(split.largest(), 4);
}

// Bytes [begin, end) of a row whose first element is at a line's beginning.
Range lines(Range columns, std::int64_t element) {
  return {columns.begin * element / 64, ceil_div(columns.end * element, 64)};
}

// Tasks of one product, each writing its panels' columns.
void expect_lines_apart(const Split& split, std::int64_t width, std::int64_t columns, std::int64_t element) {
  for (std::int64_t part = 1; part < split.parts(); ++part) {
    const auto of = [&](std::int64_t i) {
      return lines({split[i].begin * width, std::min(columns, split[i].end * width)}, element);
    };
    ASSERT_LE(of(part - 1).end, of(part).begin) << "parts " << part - 1 << " and " << part << " share a line";
  }
}

const char* const kSpecs[] = {"geglu:768x3072",      "gelu:768x3072+bias,bf16", "swiglu:2048x5632,bf16",
                              "gelu:64x256+bias",    "gelu:64x256,fp16",        "geglu:72x200->136,bf16",
                              "swiglu:4096x14336",   "relu2:129x515->33,fp16",  "gelu:1x1->1,bf16",
                              "glu:768x3072->1,bf16"};

TEST(PanelSplit, TasksWriteNoLineOfEachOtherUnlessBalanceForbids) {
  int apart = 0, shared = 0;
  for (const char* text : kSpecs) {
    const MlpSpec spec = parse_spec(text).value();
    for (const int lanes : {8, 16}) {
      const PackedShape shape(spec, lanes);
      for (int tasks = 1; tasks <= kMostThreads; ++tasks) {
        const Split hidden = hidden_split(shape, tasks);
        const Split down = down_split(shape, spec.dtype, tasks);
        EXPECT_EQ(hidden.largest(), ceil_div(shape.hidden_panels, tasks));
        EXPECT_EQ(down.largest(), ceil_div(shape.down_panels, tasks));
        const std::int64_t element = static_cast<std::int64_t>(size_of(spec.dtype));
        if (hidden.group() * shape.columns_per_hidden_panel * 4 >= 64) {
          expect_lines_apart(hidden, shape.columns_per_hidden_panel, spec.d_hidden, 4);
          ++apart;
        } else {
          ++shared;
        }
        if (down.group() * shape.columns_per_down_panel * element >= 64) {
          expect_lines_apart(down, shape.columns_per_down_panel, spec.d_out, element);
          ++apart;
        } else {
          ++shared;
        }
      }
    }
  }
  EXPECT_GT(apart, shared);
  EXPECT_GT(shared, 0);  // a panel narrower than a line, and more tasks than lines
}

constexpr std::int64_t kTokens[] = {1,   2,   6,    13,   14,   15,   64,   100,   255,
                                    256, 257, 1000, 1024, 4096, 8191, 8192, 100000};
constexpr std::int64_t kWidths[] = {64, 768, 2048, 16384};

// Every combination of tokens, width, threads, tile and unit.
template <class Check>
void for_each_blocking(const Check& check) {
  for (const std::int64_t tokens : kTokens) {
    for (const std::int64_t width : kWidths) {
      for (int threads = 1; threads <= kMostThreads; threads += threads < 72 ? 1 : 23) {
        for (const auto& [tile, unit] : {std::pair(6, 1), std::pair(14, 1), std::pair(32, 16)}) {
          const RowBlocking blocking{.tile_rows = tile,
                                     .unit = unit,
                                     .row_bytes = static_cast<std::size_t>(width) * 4,
                                     .cache_bytes = std::size_t{1} << 20,
                                     .threads = threads};
          SCOPED_TRACE(std::to_string(tokens) + " tokens of " + std::to_string(width) + ", " +
                       std::to_string(threads) + " threads, tile " + std::to_string(tile));
          check(tokens, blocking, row_blocks(tokens, blocking));
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(RowBlocks, CoverEveryRowOnceInOrderOnWholeUnits) {
  for_each_blocking([](std::int64_t tokens, const RowBlocking& blocking, const RowBlocks& blocks) {
    std::int64_t next = 0;
    for (std::int64_t b = 0; b < blocks.count(); ++b) {
      ASSERT_EQ(blocks[b].begin, next);
      ASSERT_EQ(blocks[b].begin % blocking.unit, 0);
      ASSERT_GT(blocks[b].size(), 0);
      ASSERT_LE(blocks[b].size(), blocks.largest());
      next = blocks[b].end;
    }
    ASSERT_EQ(next, tokens);
  });
}

TEST(RowBlocks, FitTheCacheWithinTheirBounds) {
  for_each_blocking([](std::int64_t, const RowBlocking& blocking, const RowBlocks& blocks) {
    const std::int64_t by_cache = static_cast<std::int64_t>(blocking.cache_bytes / blocking.row_bytes);
    const std::int64_t most = std::clamp<std::int64_t>(by_cache, 8 * blocking.tile_rows, 32 * blocking.tile_rows);
    ASSERT_LE(blocks.largest(), ceil_div(most, blocking.unit) * blocking.unit);
  });
}

// Blocks are taken by whoever is free. Dealt out evenly, the busiest thread has at most one unit a turn more than the
// mean; in turns of many, list scheduling exceeds the mean by less than the last block (Graham 1966), an eighth.
TEST(RowBlocks, NoThreadIsIdleAndAllEndTogether) {
  for_each_blocking([](std::int64_t tokens, const RowBlocking& blocking, const RowBlocks& blocks) {
    const std::int64_t units = ceil_div(tokens, blocking.unit);
    const std::int64_t busy =
        std::min({static_cast<std::int64_t>(blocking.threads), ceil_div(tokens, blocking.tile_rows), units});
    ASSERT_GE(blocks.tasks, busy);
    ASSERT_LE(blocks.tasks, blocking.threads);

    std::vector<std::int64_t> rows(static_cast<std::size_t>(blocks.tasks));
    for (std::int64_t b = 0; b < blocks.count(); ++b) {
      *std::min_element(rows.begin(), rows.end()) += blocks[b].size();
    }
    const auto most = static_cast<double>(*std::max_element(rows.begin(), rows.end()));
    const double mean = static_cast<double>(tokens) / static_cast<double>(blocks.tasks);
    const auto turns = static_cast<double>(ceil_div(blocks.count(), blocks.tasks));
    ASSERT_LE(most, std::max(mean + turns * static_cast<double>(blocking.unit),
                             mean * 1.125 + static_cast<double>(blocking.unit)));
  });
}

TEST(RowBlocks, ManyCoresAllGetRows) {
  // 1024 rows on 64 threads: 16 rows each, not 37 blocks of 28.
  const RowBlocks blocks =
      row_blocks(1024, {.tile_rows = 14, .row_bytes = 784 * 4, .cache_bytes = 1258291, .threads = 64});
  EXPECT_EQ(blocks.tasks, 64);
  EXPECT_EQ(blocks.count(), 64);
  EXPECT_EQ(blocks.largest(), 16);
}

TEST(RowBlocks, NoTokensAndMoreThanFit) {
  const RowBlocking blocking{.tile_rows = 14, .row_bytes = 4, .cache_bytes = 1 << 20, .threads = 4};
  EXPECT_EQ(row_blocks(0, blocking).count(), 0);
  EXPECT_EQ(row_blocks(0, blocking).tasks, 0);
  constexpr std::int64_t kHuge = std::int64_t{1} << 46;
  const RowBlocks blocks = row_blocks(kHuge, blocking);
  EXPECT_EQ(blocks[blocks.count() - 1].end, kHuge);
  EXPECT_EQ(blocks.tasks, 4);
}

// Runs tasks one after another and lets a test look after each.
class Stepper : public Executor {
 public:
  Stepper(int threads, std::function<void(int task)> after) : threads_(threads), after_(std::move(after)) {}
  int concurrency() const noexcept override { return threads_; }
  void parallel(int count, void (*task)(void*, int), void* context) override {
    for (int i = 0; i < count; ++i) {
      task(context, i);
      after_(i);
    }
  }

 private:
  int threads_;
  std::function<void(int)> after_;
};

// Packing task i writes the panels of part i of either product of cpu.columns, which task i takes first.
TEST(FirstTouch, APanelIsPackedByTheTaskThatTakesItFirst) {
  constexpr std::byte kPoison{0xff};  // NaN in every type
  for (const Isa isa : vector_isas()) {
    const test::ScopedEnv forced("FUSEDMLP_ISA", to_string(isa));
    const DeviceInfo device = **core::cpu_device();
    for (const char* text : {"geglu:40x300+bias", "gelu:60x133->97+bias,bf16", "swiglu:32x256->256,fp16"}) {
      for (const int threads : {2, 3, 16, 64}) {
        if (FUSEDMLP_SANITIZED && threads != 3) continue;
        SCOPED_TRACE(std::string(text) + ", " + to_string(isa) + ", " + std::to_string(threads) + " threads");
        const MlpSpec spec = parse_spec(text).value();
        const test::Mlp mlp(spec, test::uniform());
        const core::KernelEntry& entry = columns_kernel();
        const std::size_t bytes = entry.layout->bytes(spec, device);
        core::AlignedBuffer packed(bytes);
        std::memset(packed.data(), 0xff, bytes);
        const auto* at = static_cast<const std::byte*>(packed.data());

        std::vector<int> owner(bytes, -1);  // of no task: biases, padding, and weights that happen to be the poison
        std::vector<std::byte> before(bytes, kPoison);
        Stepper packer(threads, [&](int task) {
          for (std::size_t i = 0; i < bytes; ++i) {
            if (at[i] == before[i]) continue;
            ASSERT_EQ(owner[i], -1) << "written twice";
            owner[i] = task;
            before[i] = at[i];
          }
        });
        ASSERT_TRUE(entry.layout->pack(spec, mlp.weights, device, packed.data(), packer).ok());

        const PackedShape shape(spec, isa_kernels(isa)->lanes);
        const auto written_by = [&](std::size_t start, std::size_t panel_bytes, const Split& parts) {
          for (int task = 0; task < parts.parts(); ++task) {
            const Range panels = parts[task];
            std::size_t written = 0;
            for (std::size_t i = start + static_cast<std::size_t>(panels.begin) * panel_bytes;
                 i < start + static_cast<std::size_t>(panels.end) * panel_bytes; ++i) {
              if (owner[i] == -1) continue;
              ASSERT_EQ(owner[i], task) << "byte " << i;
              ++written;
            }
            EXPECT_GT(written, 0U) << "task " << task;
          }
        };
        written_by(0, shape.hidden_panel_bytes, hidden_split(shape, threads));
        written_by(shape.down_weights, shape.down_panel_bytes, down_split(shape, spec.dtype, threads));
      }
    }
  }
}

}  // namespace
}  // namespace fusedmlp::cpu
