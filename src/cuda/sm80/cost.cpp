// How long a product takes with a tile, and the tile that takes least. Constants fitted to benchmarks/gpu_tiles.cpp.
#include <algorithm>
#include <cmath>

#include "core/format.h"
#include "cuda/sm80/tiles.h"

namespace fusedmlp::cuda::sm80 {
namespace {

// Fitted to every tile and split of 94 products of 16 to 8192 rows on an H200: the chosen one is 1.1 % from the
// fastest in the mean, its time predicted within 8 % in the mean. Where products alone say otherwise, the pairs of an
// MLP decide: kernels of one tile a SM start early (starts_early) and are cold where others have run since.
constexpr double kMemoryShare = 0.8;     // of the bandwidth that blocks on all SMs reach
constexpr double kRampSeconds = 0.6e-6;  // of a launch, beside the blocks' own start and end
// A split launch takes so much longer, and its sums pass at so many times the memory's bandwidth.
constexpr double kSplitSeconds = 0.2e-6;
constexpr double kSumsShare = 1.85;

constexpr std::int64_t kLeastSplitDepth = 4 * kDepth;

struct Outputs {
  std::int64_t m, n;
};

Outputs outputs_of_block(const Product& p, TileName tile) {
  if (p.dtype == DType::f32) {
    const bool large = tile == TileName::large;
    return {large ? 128 : 64, large && !p.gated ? 128 : 64};
  }
  const TileShape& shape = kTiles[static_cast<int>(tile)];
  return {shape.m, shape.weight_rows / (p.gated ? 2 : 1)};
}

struct Block {
  std::int64_t m;
  std::int64_t weight_rows;  // twice the output columns in a gated product
  int per_sm;                // blocks that run side by side
  double full;               // share of the SM's rate that those reach together
  double alone;              // that one block reaches
  double start_and_end;      // seconds to fill the ring, apply the epilogue and store
};

// mma.sync alone reaches two thirds of the rate of Hopper's tensor cores (docs/lab-notes-gpu.md); Ampere's and Ada's
// are made for it.
Block block(const Product& p, TileName tile, const DeviceInfo& device) {
  const Outputs outputs = outputs_of_block(p, tile);
  const std::int64_t weight_rows = outputs.n * (p.gated ? 2 : 1);
  if (p.dtype == DType::f32) {
    const bool large = tile == TileName::large;
    return {outputs.m, weight_rows, 2, large ? 0.6 : 0.45, large ? 0.4 : 0.3, 2e-6};
  }
  const TileShape& shape = kTiles[static_cast<int>(tile)];
  const double most = device.compute_capability >= 90 ? 0.505 : 0.8;
  Block b{outputs.m, weight_rows, shape.blocks_per_sm, most, most, p.gated ? 6.7e-6 : 5.6e-6};
  switch (tile) {
    case TileName::small:
      b.full = 0.375 * most;
      b.alone = 0.355 * most;
      b.start_and_end = 2.2e-6;
      break;
    case TileName::medium:
      b.full = 0.8 * most;
      b.alone = 0.765 * most;
      b.start_and_end = 2.4e-6;
      break;
    case TileName::square:
      b.full = 0.945 * most;
      b.alone = 0.89 * most;
      b.start_and_end = 3.7e-6;
      break;
    case TileName::wide:
      b.full = b.alone = 0.905 * most;
      b.start_and_end = 3.5e-6;
      break;
    case TileName::large: break;
  }
  return b;
}

bool fits(const Product& p, TileName tile) {
  if (p.dtype == DType::f32) return tile == TileName::small || tile == TileName::large;  // all others are small's
  return !kTiles[static_cast<int>(tile)].plain_along_k || (!p.gated && p.along_k);
}

}  // namespace

std::int64_t blocks(const Product& p, const GemmPlan& plan) {
  const Outputs each = outputs_of_block(p, plan.tile);
  return (p.m + each.m - 1) / each.m * ((p.n + each.n - 1) / each.n) * plan.splits;
}

int blocks_per_sm(const Product& p, const GemmPlan& plan) {
  return p.dtype == DType::f32 ? 2 : kTiles[static_cast<int>(plan.tile)].blocks_per_sm;
}

double predicted_seconds(const Product& p, const GemmPlan& plan, const DeviceInfo& device) {
  const Block b = block(p, plan.tile, device);
  const double sms = device.cores;
  const auto count = static_cast<double>(blocks(p, plan));
  const std::int64_t split_k = (p.k + plan.splits - 1) / plan.splits;
  const double depth = static_cast<double>((split_k + kDepth - 1) / kDepth * kDepth);
  const double work = 2.0 * static_cast<double>(b.m * b.weight_rows) * depth;  // of a block
  const double peak = device.flops_per_core[static_cast<int>(p.dtype)];

  // Full waves run b.per_sm blocks an SM; the rest runs as thinly as it can be spread.
  const double full_waves = std::floor(count / (sms * b.per_sm));
  const double rest = std::ceil((count - full_waves * sms * b.per_sm) / sms);
  const double share = b.per_sm == 1 ? b.full : b.alone + (b.full - b.alone) * (rest - 1) / (b.per_sm - 1);
  double compute = full_waves * (b.per_sm * work / (b.full * peak) + b.start_and_end);
  if (rest > 0) compute += rest * work / (share * peak) + b.start_and_end;

  const double size = static_cast<double>(size_of(p.dtype));
  const double weights = p.gated ? 2 : 1;
  const double outputs = static_cast<double>(p.m * p.n);
  const double bytes = size * (weights * static_cast<double>(p.n * p.k) + static_cast<double>(p.m * p.k) + outputs);
  const double busy = std::min(1.0, count / sms);  // few blocks cannot keep memory busy
  const double kernel = device.launch_seconds + kRampSeconds;
  double seconds = std::max(compute, bytes / (kMemoryShare * busy * device.memory_bandwidth)) + kernel;
  if (plan.splits > 1) {  // another kernel, and the sums to and from L2
    seconds +=
        kSplitSeconds + kernel + 2 * 4 * weights * outputs * plan.splits / (kSumsShare * device.memory_bandwidth);
  }
  return seconds;
}

GemmPlan choose(const Product& p, const DeviceInfo& device) {
  GemmPlan best;
  double best_seconds = predicted_seconds(p, best, device);
  for (int tile = 0; tile < kTileCount; ++tile) {
    if (!fits(p, static_cast<TileName>(tile))) continue;
    for (int splits = 1; splits <= kMostSplits; splits *= 2) {
      if (splits > 1) {
        const std::int64_t partials = splits * p.m * p.n * (p.gated ? 2 : 1);
        if (p.dtype == DType::f32 || p.k < splits * kLeastSplitDepth || partials > kMostPartials) break;
      }
      const GemmPlan plan{static_cast<TileName>(tile), splits};
      const double seconds = predicted_seconds(p, plan, device);
      if (seconds < best_seconds) {
        best = plan;
        best_seconds = seconds;
      }
    }
  }
  return best;
}

std::string describe(int m, int n, int splits, int stages) {
  return core::format("tiles of {} x {}, k in {} part{}, {} stages", m, n, splits, splits == 1 ? "" : "s", stages);
}

}  // namespace fusedmlp::cuda::sm80
