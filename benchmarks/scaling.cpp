// The figures of docs/scaling.md: what a socket of 64 AMX cores reaches on paper. The cuts are those of
// cpu/partition.h, the rates were measured on fewer cores, the rest is stated as an assumption there.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/cost_model.h"
#include "core/format.h"
#include "cpu/partition.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp {
namespace {

using cpu::ceil_div;
using cpu::Split;

constexpr int kThreads = 64;
constexpr double kPeak = 2.965e12;     // bf16 flop/s of a core, random operands, no loads
constexpr double kKernel = 0.66;       // share of it that the fused prototype reached at 256 rows and more
constexpr double kL2 = 122e9;          // bytes/s a core, 16 cores reading at once
constexpr double kL3 = 24.6e9;         // likewise
constexpr double kL2Bytes = 2 << 20;   // a core
constexpr double kWarmShare = 0.6;     // of L2 that weights may fill from one call to the next
constexpr double kRegion = 3e-6;       // seconds of one parallel region on two cores
constexpr double kHandOver = 0.1e-6;   // seconds for a cache line to change hands (assumed)
constexpr double kTile = 16;           // rows of a tile, computed whether there or not
constexpr std::int64_t kRows = 32;     // rows that go together: two tiles
constexpr std::int64_t kColumns = 32;  // columns of a panel
constexpr double kElement = 2;         // bytes of a bf16

struct Time {
  double compute, traffic, joins;
  int busy;
  double balance;  // mean share / largest share of the worse product
  const char* from;
  double total() const { return std::max(compute, traffic) + joins; }
};

// A region, whose tasks are handed out and collected by a counter each; and waits for all within it, for which every
// task adds to a counter and reads it.
double joins(int waits, int tasks) { return kRegion + 2 * kHandOver * tasks * (1 + waits); }

// Rows in `row_parts`, columns of either product in threads / row_parts parts; one wait between the products. With
// one row part this is the columns driver.
Time grid(const MlpSpec& spec, std::int64_t tokens, int row_parts) {
  const Split rows(ceil_div(tokens, kRows), row_parts);
  const int column_tasks = kThreads / row_parts;
  const Split hidden(ceil_div(spec.d_hidden, kColumns), column_tasks),
      down(ceil_div(spec.d_out, kColumns), column_tasks);
  const double m = static_cast<double>(std::min(tokens, rows.largest() * kRows));
  const double padded = std::ceil(m / kTile) * kTile;
  const double in = static_cast<double>(spec.d_in), middle = static_cast<double>(spec.d_hidden);
  const double h = static_cast<double>(hidden.largest() * kColumns) * (spec.gated ? 2 : 1);
  const double d = static_cast<double>(down.largest() * kColumns);
  const double weights = (h * in + d * middle) * kElement;
  const bool warm = weights <= kWarmShare * kL2Bytes;
  Time time;
  time.compute = 2 * padded * (h * in + d * middle) / (kPeak * kKernel);
  // x, and the hidden that other cores wrote, come through L3; y is written once.
  time.traffic = weights / (warm ? kL2 : kL3) + m * (in + middle + d) * kElement / kL3;
  time.joins = joins(1, kThreads);
  time.busy = static_cast<int>(rows.parts() * std::min(hidden.parts(), down.parts()));
  time.balance = static_cast<double>(ceil_div(spec.d_out, kColumns)) /
                 static_cast<double>(down.largest() * column_tasks) * static_cast<double>(ceil_div(tokens, kRows)) /
                 static_cast<double>(rows.largest() * row_parts);
  time.from = warm ? "L2" : "L3";
  return time;
}

// The rows driver: every block streams all weights.
Time rows(const MlpSpec& spec, std::int64_t tokens) {
  const cpu::RowBlocks blocks = cpu::row_blocks(
      tokens, {.tile_rows = 8, .unit = kRows, .row_bytes = 1, .cache_bytes = 256, .threads = kThreads});
  const double turns = static_cast<double>(ceil_div(blocks.count(), blocks.tasks));
  const double most = std::min(turns * static_cast<double>(blocks.largest()), static_cast<double>(tokens));
  Time time;
  time.compute = most * flops(spec, 1) / (kPeak * kKernel);
  time.traffic = turns * core::weight_bytes(spec) / kL3;
  time.joins = joins(0, blocks.tasks);
  time.busy = blocks.tasks;
  time.balance = static_cast<double>(tokens) / most / kThreads;
  time.from = "L3";
  return time;
}

void print(const char* plan, const MlpSpec& spec, std::int64_t tokens, const Time& t) {
  std::puts(core::format("| {} | {} | {} | {} | {:.2f} | {:.1f} ({}) | {:.1f} | {:.1f} | {:.1f} | {:.1f} |",
                         to_string(spec), tokens, plan, t.busy, t.balance, t.traffic * 1e6, t.from, t.compute * 1e6,
                         t.joins * 1e6, t.total() * 1e6, flops(spec, tokens) / t.total() * 1e-12)
                .c_str());
}

void print_table() {
  std::puts(
      "| MLP | M | plan | busy | balance | traffic us (weights from) | compute us | joins us | total us | TFLOP/s |");
  std::puts("|---|---|---|---|---|---|---|---|---|---|");
  for (const char* text : {"geglu:768x3072,bf16", "gelu:768x3072+bias,bf16", "swiglu:2048x5632,bf16"}) {
    const MlpSpec spec = parse_spec(text).value();
    for (const std::int64_t tokens : {1, 64, 1024, 8192}) {
      if (tokens <= 512) print("columns", spec, tokens, grid(spec, tokens, 1));
      if (tokens > kRows) {
        if (tokens > 512) print("rows", spec, tokens, rows(spec, tokens));
        int best = 1;
        for (int parts = 2; parts <= kThreads; parts *= 2) {
          if (grid(spec, tokens, parts).total() < grid(spec, tokens, best).total()) best = parts;
        }
        print(core::format("grid {}x{}", best, kThreads / best).c_str(), spec, tokens, grid(spec, tokens, best));
      }
    }
  }
}

}  // namespace
}  // namespace fusedmlp

int main() { fusedmlp::print_table(); }
