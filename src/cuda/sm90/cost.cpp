// How long each tile takes for a product, and which is taken.
#include <algorithm>
#include <cmath>

#include "core/sm_rates.h"
#include "cuda/sm90/tiles.h"

namespace fusedmlp::cuda::sm90 {
namespace {

// Clocks of one SM at its nominal rate, fitted by hand to nine MLPs on an H100 and an H200; under load both run at
// four fifths of that, which is part of the shares below. Predictions lie within 20 % of the times.
constexpr double kShare = 0.70;            // of the tensor cores' rate while a tile's products run
constexpr double kShareOfThree = 0.69;     // the same with three consumers
constexpr double kLeastBlock = 330;        // a k block of one warpgroup, however small
constexpr double kActivationClocks = 100;  // an element of a thread in the epilogue
constexpr double kStoreClocks = 25;        // the same without an activation
constexpr double kTileClocks = 1500;       // a tile's first and last steps
constexpr double kLoadBytesPerClock = 50;  // from L2 into one SM
constexpr double kClusterGain = 0.988;     // of a cluster's common weight traffic, where waves are many and deep

std::int64_t divide_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

double seconds(const Product& p, const TileShape& tile, const DeviceInfo& device) {
  // Multiply-adds of an m64n8k16 take 4 clocks.
  const double clock = device.flops_per_core[static_cast<int>(p.dtype)] / (2.0 * 2048);
  const auto k_blocks = static_cast<double>(divide_up(p.k, kBlockK));
  const double share = tile.consumers == 3 ? kShareOfThree : kShare;
  const double multiply = tile.m / 64.0 * tile.weights / 2.0 * (kBlockK / 16.0) / share;
  const double load = (tile.m + tile.weights) * kBlockK * 2.0 / kLoadBytesPerClock;
  const double mainloop = k_blocks * std::max({multiply, load, tile.turns ? kLeastBlock : kLeastBlock / 2});
  const double elements = tile.m * tile.columns() / (tile.turns ? 128.0 : 256.0);
  const double epilogue = elements * (p.activated ? kActivationClocks : kStoreClocks) + kTileClocks;
  const std::int64_t tiles =
      divide_up(p.m, std::int64_t{tile.m} * tile.cluster) * tile.cluster * divide_up(p.n, tile.columns());
  const auto rounds = static_cast<double>(divide_up(tiles, device.cores));  // of the busiest SM
  double clocks = 0;
  if (tile.turns) {
    // Products one after another; a warpgroup's next tile waits for its epilogue.
    const double own = std::ceil(rounds / tile.consumers);
    clocks = std::max(rounds * mainloop + epilogue, own * (mainloop + epilogue));
  } else {
    clocks = rounds * (mainloop + epilogue / 2) + epilogue / 2;  // about half is beside the other's products
  }
  if (tile.cluster > 1 && rounds > 4 && p.k >= 2048) clocks *= kClusterGain;
  const double bytes =
      2.0 * (static_cast<double>((p.gated ? 2 : 1) * p.n * p.k) + static_cast<double>(p.m * (p.k + p.n)));
  const double busy = std::min(1.0, static_cast<double>(tiles) / device.cores);
  return std::max(clocks / clock, bytes / (busy * device.memory_bandwidth)) + device.launch_seconds +
         core::kKernelRampSeconds;
}

}  // namespace

Choice choose(const Product& p, const DeviceInfo& device) {
  Choice best{-1, 0};
  for (int i = 0; i < kTileCount; ++i) {
    if (kTiles[i].gated != p.gated) continue;
    const double time = seconds(p, kTiles[i], device);
    if (best.tile < 0 || time < best.seconds) best = {i, time};
  }
  return best;
}

}  // namespace fusedmlp::cuda::sm90
