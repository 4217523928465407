// How long the narrow kernels take. Clocks are those of the nominal rate, which an SM does not keep while it
// multiplies: that is in the factors, fitted to MLPs of tests/data/gpu/narrow_mlps.json on an H200 (off by 6 % rms).
#include <algorithm>
#include <cmath>

#include "core/sm_rates.h"
#include "cuda/narrow/narrow.h"

namespace fusedmlp::cuda::narrow {
namespace {

std::int64_t divide_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

// Multiply-adds a clock and SM.
double rate(const MlpSpec& spec, const DeviceInfo& device) {
  const core::SmRates& rates = core::sm_rates(device.compute_capability);
  return spec.dtype == DType::f32 ? rates.fp32 : rates.half;
}

double clock(const MlpSpec& spec, const DeviceInfo& device) {
  return device.flops_per_core[static_cast<int>(spec.dtype)] / (2 * rate(spec, device));
}

// `ramp`: what a launch takes besides.
double at_least_memory(double seconds, double ramp, const MlpSpec& spec, std::int64_t tokens,
                       const DeviceInfo& device) {
  const auto weights = static_cast<double>(spec.d_hidden * (spec.d_in * (spec.gated ? 2 : 1) + spec.d_out));
  const double bytes = 2 * (static_cast<double>(tokens * (spec.d_in + spec.d_out)) + weights);
  return std::max(seconds, bytes / device.memory_bandwidth) + device.launch_seconds + ramp;
}

}  // namespace

// Three warpgroups of an SM, or two, take 64 tokens each, chunk by chunk. A chunk costs time besides its products,
// and a tile does; fewer warpgroups than there are take more than their share.
double hopper_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  constexpr double kProducts = 1.30;  // clocks of one at the tensor cores' nominal rate
  constexpr double kChunk = 145, kGatedChunk = 208, kTile = 940, kRamp = 0.92e-6;
  constexpr double kOneOfTwo = 0.70, kOneOfThree = 0.55, kTwoOfThree = 0.86;
  const int width = padded_width(spec.d_in, spec.d_out);
  const bool narrow_chunk = width == 192 && !spec.gated;
  const int units = spec.gated || narrow_chunk ? 64 : 128;  // of a chunk
  const int most = width <= 128 || narrow_chunk ? 3 : 2;    // warpgroups
  const double products = 64.0 * units * width * (spec.gated ? 3 : 2) / rate(spec, device);
  const auto chunks = static_cast<double>(divide_up(spec.d_hidden, units));
  const double all = most * (chunks * (kProducts * products + (spec.gated ? kGatedChunk : kChunk)) + kTile);
  const std::int64_t tiles = divide_up(divide_up(tokens, 64), device.cores);  // of the busiest SM
  const double left = tiles % most == 0 ? 0 : most == 2 ? kOneOfTwo : tiles % 3 == 1 ? kOneOfThree : kTwoOfThree;
  const double clocks = all * (static_cast<double>(tiles / most) + left);
  return at_least_memory(clocks / clock(spec, device), kRamp, spec, tokens, device);
}

// Two blocks of an SM take 64 or 128 tokens each, and no longer than one alone: each waits for itself. mma.sync
// reaches about 60 % of the rate of Hopper's tensor cores.
double portable_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  constexpr double kShare = 0.72, kShareOne = 0.39;  // of mma.sync's rate, with two or one fragment of rows a warp
  constexpr double kElementClocks = 0.24;            // an activation
  const int width = padded_width(spec.d_in, spec.d_out);
  const bool one = width > 128 || spec.gated;
  const int unit = spec.gated && width > 128 ? 16 : 32;
  const double elements = 2.0 * (one ? 64 : 128) * static_cast<double>(divide_up(spec.d_hidden, unit) * unit);
  const double most = rate(spec, device) * (device.compute_capability / 10 == 9 ? 0.62 : 1);
  const double clocks =
      elements * width * (spec.gated ? 3 : 2) / ((one ? kShareOne : kShare) * most) + elements * kElementClocks;
  const std::int64_t rounds = divide_up(divide_up(tokens, one ? 64 : 128), 2 * device.cores);
  return at_least_memory(static_cast<double>(rounds) * clocks / clock(spec, device), core::kKernelRampSeconds, spec,
                         tokens, device);
}

}  // namespace fusedmlp::cuda::narrow
