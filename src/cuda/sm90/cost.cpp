// How long each tile takes for a product, and which is taken.
#include <algorithm>
#include <cmath>

#include "core/format.h"
#include "core/sm_rates.h"
#include "cuda/sm90/split.h"

namespace fusedmlp::cuda::sm90 {
namespace {

// Clocks of one SM at its nominal rate, which it does not keep while it multiplies: that is in the shares. Fitted on
// an H200 to pairs of products (tests/data/gpu/sm90_pairs.txt, 217 MLPs: what is chosen is off by 3 % and loses 0.5 %
// in the mean) and to every tile on 271 products by themselves (sm90_products.json, before gelu got cheaper: off by
// 10 %, losing 1.0 %).
struct Rates {
  double share;       // of the tensor cores' rate while a tile's products run
  double activation;  // clocks of an element of a thread in the epilogue
};
constexpr Rates kRates[kTileCount] = {{0.791, 78.9}, {0.749, 43.2}, {0.700, 52.8}, {0.814, 56.9},  {0.788, 71.5},
                                      {0.834, 64.2}, {0.825, 49.5}, {0.760, 36.1}, {0.761, 48.8},  {0.806, 54.6},
                                      {0.757, 46.5}, {0.816, 41.4}, {0.788, 71.2}, {0.653, 100.4}, {0.833, 21.3}};
constexpr double kSplitShare[kSplitCount] = {0.778, 0.557, 0.945};
constexpr double kLeastBlock = 106.7;  // a k block of a tile, however small
constexpr double kLeastBlockSharing = 336.5;
constexpr double kTileClocks = 162;  // a tile's first and last steps
constexpr double kTileClocksSharing = 1414;
constexpr double kExchangeClocks = 167;  // of sums within a cluster, and a byte of a tile's sums
constexpr double kExchangeClocksPerByte = 1 / 11.60;
constexpr double kLoadBytesPerClock = 159.7;  // from L2 into one SM
constexpr double kAllLoadsPerClock = 6929;    // and into all of them
constexpr double kAllLoadsOfSplits = 5810;
constexpr double kAllLoadsInOrder = 8830;  // where CTAs lie in the launch's order
constexpr double kWaitSeconds = 1.33e-6;   // until such a launch begins
// The shorter one of products and loads is beside the other up to a share of it, and of the rest not all.
constexpr double kBeside = 0.85, kNotBeside = 0.285;
// Of the share of SMs at work, which bounds how much they read from memory.
constexpr double kBandwidthExponent = 0.282;
// Share of the SMs that clusters of 2 or of 4 CTAs, one a SM, can fill at once (H200: 66 and 30 clusters).
constexpr double kClusterShare[] = {0, 0, 1, 0, 0.91};
// Bytes read that one written costs, seen where both products wait for memory: MLPs of up to 256 columns at 12288 to
// 262144 tokens (tests/data/gpu/narrow_mlps.json).
constexpr double kWriteCost = 1.95;
// A launch takes longer than the longer one of arithmetic and memory by what of the shorter one is not beside it: the
// root of this degree of the sum of the powers.
constexpr double kApart = 3.74;
// A row of a tile beyond the last token, multiplied though not fetched, as a share of the time that memory takes.
constexpr double kEmptyRow = 0.0015;

std::int64_t divide_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

// Of the products of `blocks` k blocks of a tile of m rows, `busy` SMs at work.
double mainloop_clocks(double blocks, int m, int weights, double share, double least, double busy,
                       double all_loads = kAllLoadsPerClock) {
  const double multiply = m / 64.0 * weights / 2.0 * (kBlockK / 16.0) / share;  // multiply-adds of m64n8k16: 4 clocks
  const double load = (m + weights) * kBlockK * 2.0 * std::max(1 / kLoadBytesPerClock, busy / all_loads);
  const double more = std::max(multiply, load), less = std::min(multiply, load);
  return blocks * std::max(more + kNotBeside * std::max(0.0, less - kBeside * more), least);
}

// Of a launch of so many clocks and empty rows.
double launch_seconds(const Product& p, const DeviceInfo& device, double clocks, double busy, double empty) {
  const double clock = device.flops_per_core[static_cast<int>(p.dtype)] / (2.0 * 2048);
  const double bytes = 2.0 * (static_cast<double>((p.gated ? 2 : 1) * p.n * p.k) + static_cast<double>(p.m * p.k) +
                              kWriteCost * static_cast<double>(p.m * p.n));
  const double reads = device.memory_bandwidth * std::pow(busy / device.cores, kBandwidthExponent);
  const double memory = bytes / reads * (1 + kEmptyRow * empty);
  return std::pow(std::pow(clocks / clock, kApart) + std::pow(memory, kApart), 1 / kApart) + device.launch_seconds +
         core::kKernelRampSeconds;
}

double tile_seconds(const Product& p, int index, bool overlaps, const DeviceInfo& device) {
  const TileShape& tile = kTiles[index];
  const std::int64_t tiles = divide_up(p.m, tile.m) * divide_up(p.n, tile.columns());
  const auto rounds = static_cast<double>(divide_up(tiles, device.cores));  // of the busiest SM
  const double busy = std::min<double>(static_cast<double>(tiles), device.cores);
  const double mainloop = mainloop_clocks(static_cast<double>(divide_up(p.k, kBlockK)), tile.m, tile.weights,
                                          kRates[index].share, tile.turns ? kLeastBlock : kLeastBlockSharing, busy,
                                          overlaps ? kAllLoadsPerClock : kAllLoadsInOrder);
  const double elements = tile.m * tile.columns() / (tile.turns ? 128.0 : 256.0);
  const double epilogue =
      (p.activated ? elements * kRates[index].activation : 0) + (tile.turns ? kTileClocks : kTileClocksSharing);
  double clocks = rounds * (mainloop + epilogue);
  if (tile.turns) {
    // Products one after another; a warpgroup's next tile waits for its epilogue.
    const double own = std::ceil(rounds / tile.consumers);
    clocks = std::max(rounds * mainloop + epilogue, own * (mainloop + epilogue));
  }
  const auto empty = static_cast<double>(divide_up(p.m, tile.m) * tile.m - p.m);
  return launch_seconds(p, device, clocks, busy, empty) + (overlaps ? 0 : kWaitSeconds);
}

double split_seconds(const Product& p, int index, const DeviceInfo& device) {
  const Split& split = kSplits[index];
  const std::int64_t tiles = divide_up(p.m, kSplitRows) * divide_up(p.n, split.columns);
  const auto at_once = static_cast<std::int64_t>(device.cores * kClusterShare[split.slices] / split.slices);
  const auto rounds = static_cast<double>(divide_up(tiles, at_once));
  const double busy = static_cast<double>(std::min(tiles, at_once) * split.slices);
  const double mainloop =
      mainloop_clocks(static_cast<double>(divide_up(divide_up(p.k, kBlockK), split.slices)), kSplitRows,
                      split.columns, kSplitShare[index], kLeastBlockSharing, busy, kAllLoadsOfSplits);
  const double exchange = kExchangeClocks + kSplitRows * split.columns * 4 * kExchangeClocksPerByte;
  return launch_seconds(p, device, rounds * (mainloop + exchange), busy, 0);
}

}  // namespace

std::string describe(const TileShape& tile) {
  return core::format("tiles of {} x {}, {} warpgroups {}, {} stages", tile.m, tile.columns(), tile.consumers,
                      tile.turns ? "by turns" : "sharing a tile", tile.stages);
}

std::string describe(const Split& split) {
  return core::format("tiles of {} x {}, {} slices of k, {} stages", kSplitRows, split.columns, split.slices,
                      split_stages(split));
}

double predicted_seconds(const Product& p, const Choice& choice, const DeviceInfo& device) {
  return choice.split < 0 ? tile_seconds(p, choice.tile, choice.overlaps, device)
                          : split_seconds(p, choice.split, device);
}

Choice choose(const Product& p, const DeviceInfo& device) {
  Choice best;
  const auto consider = [&](Choice choice) {
    choice.seconds = predicted_seconds(p, choice, device);
    if (best.seconds == 0 || choice.seconds < best.seconds) best = choice;
  };
  for (int i = 0; i < kTileCount; ++i) {
    if (kTiles[i].gated != p.gated) continue;
    consider({i, -1, true});
    if (p.second) consider({i, -1, false});
  }
  if (!p.second || device.cores < kLeastSplitSms) return best;
  for (int i = 0; i < kSplitCount; ++i) {
    // Every slice has some k, and not so little that handing out sums takes longer.
    if (p.k >= kSplits[i].slices * kLeastSlice) consider({-1, i, true});
  }
  return best;
}

}  // namespace fusedmlp::cuda::sm90
