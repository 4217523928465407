// How long each tile takes for a product, and which is taken.
#include <algorithm>
#include <cmath>

#include "core/format.h"
#include "core/sm_rates.h"
#include "cuda/sm90/tiles.h"

namespace fusedmlp::cuda::sm90 {
namespace {

// Clocks of one SM at its nominal rate, which it does not keep while it multiplies: that is in the shares. Fitted to
// every tile on 271 products on an H200 (tests/data/gpu/sm90_products.json, by lab/sm90/bench.py products): where a
// tile is no more than a fifth slower than the best one its prediction is off by 10 % in the mean, and the chosen
// tile by 1.2 % from the best.
constexpr double kShare = 0.713;            // of the tensor cores' rate while a tile's products run
constexpr double kShareSharing = 0.685;     // the same where two warpgroups share a tile
constexpr double kLeastBlock = 320;         // a k block of one warpgroup, however small
constexpr double kActivationClocks = 35;    // an element of a thread in the epilogue
constexpr double kTileClocks = 310;         // a tile's first and last steps
constexpr double kLoadBytesPerClock = 71;   // from L2 into one SM
constexpr double kAllLoadsPerClock = 7300;  // and into all of them
constexpr double kBandwidthExponent =
    0.43;  // of the share of SMs at work, which bounds how much they read from memory
// Bytes read that one written costs, seen where both products wait for memory: MLPs of up to 256 columns at 12288 to
// 262144 tokens (tests/data/gpu/narrow_mlps.json).
constexpr double kWriteCost = 2.5;
// A row of a tile beyond the last token, which the copy engine fills with zeros, as a share of the time that memory
// takes (SwiGLU 4096x14336 at 1 to 128 tokens: 0.7 us a row; benchmarks/results/gpu_seams_h200.json).
constexpr double kEmptyRow = 0.007;
// Reads take so many times as long for a few tiles of 64 rows (the same MLP at 73 to 256 tokens).
constexpr double kFewTilesRead = 1.2;

std::int64_t divide_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

double seconds(const Product& p, const TileShape& tile, const DeviceInfo& device) {
  // Multiply-adds of an m64n8k16 take 4 clocks.
  const double clock = device.flops_per_core[static_cast<int>(p.dtype)] / (2.0 * 2048);
  const auto k_blocks = static_cast<double>(divide_up(p.k, kBlockK));
  const std::int64_t tiles = divide_up(p.m, tile.m) * divide_up(p.n, tile.columns());
  const auto rounds = static_cast<double>(divide_up(tiles, device.cores));  // of the busiest SM
  const double busy = std::min<double>(static_cast<double>(tiles), device.cores);
  const double multiply =
      tile.m / 64.0 * tile.weights / 2.0 * (kBlockK / 16.0) / (tile.turns ? kShare : kShareSharing);
  const double load =
      (tile.m + tile.weights) * kBlockK * 2.0 * std::max(1 / kLoadBytesPerClock, busy / kAllLoadsPerClock);
  const double mainloop = k_blocks * std::max({multiply, load, tile.turns ? kLeastBlock : kLeastBlock / 2});
  const double elements = tile.m * tile.columns() / (tile.turns ? 128.0 : 256.0);
  const double epilogue = (p.activated ? elements * kActivationClocks : 0) + kTileClocks;
  double clocks = 0;
  if (tile.turns) {
    // Products one after another; a warpgroup's next tile waits for its epilogue.
    const double own = std::ceil(rounds / tile.consumers);
    clocks = std::max(rounds * mainloop + epilogue, own * (mainloop + epilogue));
  } else {
    clocks = rounds * (mainloop + epilogue / 2) + epilogue / 2;  // about half is beside the other's products
  }
  const double bytes = 2.0 * (static_cast<double>((p.gated ? 2 : 1) * p.n * p.k + p.m * p.k) +
                              kWriteCost * static_cast<double>(p.m * p.n));
  const double reads = device.memory_bandwidth * std::pow(busy / device.cores, kBandwidthExponent) /
                       (p.m > 64 && p.m <= 256 ? kFewTilesRead : 1);
  const auto empty = static_cast<double>(divide_up(p.m, tile.m) * tile.m - p.m);
  return std::max(clocks / clock, bytes / reads * (1 + kEmptyRow * empty)) + device.launch_seconds +
         core::kKernelRampSeconds;
}

}  // namespace

std::string describe(const TileShape& tile) {
  return core::format("tiles of {} x {}, {} warpgroups {}, {} stages", tile.m, tile.columns(), tile.consumers,
                      tile.turns ? "by turns" : "sharing a tile", tile.stages_b);
}

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
