// How long the narrow kernels take.
#include <algorithm>
#include <cmath>

#include "core/sm_rates.h"
#include "cuda/narrow/narrow.h"

namespace fusedmlp::cuda::narrow {
namespace {

std::int64_t divide_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

// Multiply-adds for one token with everything padded.
double padded_work(const MlpSpec& spec, int width, int hidden_unit) {
  const auto hidden = static_cast<double>(divide_up(spec.d_hidden, hidden_unit) * hidden_unit);
  return hidden * width * (spec.gated ? 3 : 2);
}

double weight_bytes(const MlpSpec& spec) {
  return 2.0 * static_cast<double>(spec.d_hidden * (spec.d_in * (spec.gated ? 2 : 1) + spec.d_out));
}

double memory_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  return (2.0 * static_cast<double>(tokens * (spec.d_in + spec.d_out)) + weight_bytes(spec)) /
         device.memory_bandwidth;
}

}  // namespace

// Two warpgroups of an SM take 64 tokens each; alone, one takes half of the rate that they reach together or more.
double hopper_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  constexpr double kShare = 0.55;       // of the tensor cores' nominal rate, two warpgroups
  constexpr double kShareAlone = 0.34;  // one of them
  constexpr double kTileSeconds = 1.0e-6;
  const int width = padded_width(spec.d_in, spec.d_out);
  const double peak = device.flops_per_core[static_cast<int>(spec.dtype)];
  const double tile = 2.0 * 64 * padded_work(spec, width, spec.gated ? 64 : 128);
  const std::int64_t tiles = divide_up(tokens, 64);
  const std::int64_t rounds = divide_up(tiles, device.cores);  // of tiles, of the busiest SM
  const double compute = static_cast<double>(rounds / 2) * (2 * tile / (kShare * peak)) +
                         static_cast<double>(rounds % 2) * (tile / (kShareAlone * peak)) + kTileSeconds;
  return std::max(compute, memory_seconds(spec, tokens, device)) + device.launch_seconds + core::kKernelRampSeconds;
}

// Two blocks of an SM take 64 or 128 tokens each. mma.sync cannot feed Hopper's tensor cores at more than about 60 %
// of their rate.
double portable_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  const int width = padded_width(spec.d_in, spec.d_out);
  const double most = device.compute_capability >= 90 ? 0.3 : 0.5;
  const int rows = width > 128 || spec.gated ? 64 : 128;
  const double peak = device.flops_per_core[static_cast<int>(spec.dtype)];
  const double block = 2.0 * rows * padded_work(spec, width, spec.gated && width > 128 ? 16 : 32);
  const std::int64_t rounds = divide_up(divide_up(tokens, rows), device.cores);
  const double compute = static_cast<double>(rounds / 2) * (2 * block / (most * peak)) +
                         static_cast<double>(rounds % 2) * (block / (0.6 * most * peak)) + 1e-6;
  return std::max(compute, memory_seconds(spec, tokens, device)) + device.launch_seconds + core::kKernelRampSeconds;
}

}  // namespace fusedmlp::cuda::narrow
