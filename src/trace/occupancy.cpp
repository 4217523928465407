#include "trace/occupancy.h"

#include <algorithm>

namespace fusedmlp::trace {
namespace {

// CUDA C++ Programming Guide, technical specifications per compute capability.
int blocks_per_sm(int major, int minor) {
  const int sm = major * 10 + minor;
  if (sm == 75 || sm == 86 || sm == 87) return 16;
  if (sm == 89 || sm == 120) return 24;
  return 32;
}

constexpr std::int64_t kWarp = 32;
constexpr std::int64_t kMostThreads = 1024;     // of a block
constexpr std::int64_t kRegisterUnit = 256;     // registers are given out to a warp in this unit
constexpr std::int64_t kWarpUnit = 4;           // and to warps in fours, one for each part of an SM
constexpr std::int64_t kReservedShared = 1024;  // of each block, from compute capability 8.0 on
constexpr std::int64_t kSharedUnit = 128;

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

std::optional<double> occupancy(const DeviceArgs& kernel, const DeviceProperties& device) {
  if (device.name.find("AMD") != std::string::npos || device.compute_major < 0 || device.max_threads_per_sm < kWarp ||
      device.registers_per_sm <= 0 || device.sms <= 0) {
    return {};
  }
  std::int64_t threads = 1;
  double grid = 1;
  for (int d = 0; d < 3; ++d) {
    if (kernel.block[d] <= 0 || kernel.block[d] > kMostThreads || kernel.grid[d] <= 0) return {};
    threads *= kernel.block[d];
    grid *= kernel.grid[d];
  }
  if (threads > kMostThreads || kernel.registers < 0 || kernel.shared_memory < 0) return {};
  const std::int64_t warps = (threads + kWarp - 1) / kWarp;
  const std::int64_t most_warps = device.max_threads_per_sm / kWarp;
  std::int64_t blocks =
      std::min<std::int64_t>(blocks_per_sm(device.compute_major, device.compute_minor), most_warps / warps);
  if (kernel.registers > 0) {
    const std::int64_t of_warp = round_up(kernel.registers * kWarp, kRegisterUnit);
    blocks = std::min(blocks, device.registers_per_sm / of_warp / kWarpUnit * kWarpUnit / warps);
  }
  if (device.shared_memory_per_sm > 0) {
    const std::int64_t reserved = device.compute_major >= 8 ? kReservedShared : 0;
    const std::int64_t of_block = round_up(kernel.shared_memory, kSharedUnit) + reserved;
    if (of_block > 0) blocks = std::min(blocks, device.shared_memory_per_sm / of_block);
  } else if (kernel.shared_memory > 0) {
    return {};
  }
  const double resident = std::min(static_cast<double>(blocks), grid / device.sms);
  return std::clamp(resident * static_cast<double>(warps) / static_cast<double>(most_warps), 0.0, 1.0);
}

}  // namespace fusedmlp::trace
