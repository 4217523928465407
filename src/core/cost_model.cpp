#include "core/cost_model.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/sm_rates.h"

namespace fusedmlp::core {

const char* to_string(Bound bound) noexcept {
  switch (bound) {
    case Bound::overhead: return "overhead";
    case Bound::memory: return "memory";
    case Bound::compute: return "compute";
  }
  return "unknown";
}

int usable_threads(const DeviceInfo& device, int threads) noexcept {
  return std::max(1, std::min(threads, device.cores));
}

double peak_flops(const DeviceInfo& device, DType dtype, int threads) noexcept {
  const int cores = device.device.type == DeviceType::cuda ? device.cores : usable_threads(device, threads);
  return device.flops_per_core[static_cast<int>(dtype)] * cores;
}

double fastest_flops(const DeviceInfo& device, DType dtype, int threads) noexcept {
  const double tiles = device.tile_flops_per_core[static_cast<int>(dtype)];
  return std::max(peak_flops(device, dtype, threads), tiles * usable_threads(device, threads));
}

double read_bandwidth(const DeviceInfo& device, double working_set_bytes, int threads) noexcept {
  if (device.device.type == DeviceType::cuda) return device.memory_bandwidth;
  const double cores = usable_threads(device, threads);
  if (working_set_bytes <= cores * static_cast<double>(device.l2_bytes)) return cores * device.l2_bandwidth_per_core;
  if (working_set_bytes <= static_cast<double>(device.l3_bytes)) {
    return std::min(cores * device.l3_bandwidth_per_core, device.l3_bandwidth);
  }
  return std::min(cores * device.memory_bandwidth_per_core, device.memory_bandwidth);
}

double weight_bytes(const MlpSpec& spec) noexcept {
  return static_cast<double>(weight_elements(spec)) * static_cast<double>(size_of(spec.dtype));
}

double activation_bytes(const MlpSpec& spec, std::int64_t tokens) noexcept {
  return static_cast<double>(tokens) * static_cast<double>(spec.d_in + spec.d_out) *
         static_cast<double>(size_of(spec.dtype));
}

double compute_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads) noexcept {
  return flops(spec, tokens) / peak_flops(device, spec.dtype, threads);
}

double memory_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads) noexcept {
  if (tokens <= 0) return 0;
  const double weights = weight_bytes(spec);
  return (weights + activation_bytes(spec, tokens)) / read_bandwidth(device, weights, threads);
}

double library_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) noexcept {
  const double products = spec.gated ? 3 : 2;
  const double hidden =
      static_cast<double>(tokens) * static_cast<double>(spec.d_hidden) * static_cast<double>(size_of(spec.dtype));
  const double compute = compute_seconds(spec, tokens, device, 1) / kLibraryGemmShare;
  const double memory = memory_seconds(spec, tokens, device, 1) / kLibraryReadShare;
  const double between = (spec.gated ? 5 : 3) * hidden / device.memory_bandwidth;  // both sides of the activation
  return std::max(compute, memory) + between + (products + 1) * (device.launch_seconds + kKernelRampSeconds);
}

bool fusing_pays(double fused_seconds, double library_seconds) noexcept {
  // Below this a call of several operations takes longer to issue than to run; fused, one call is issued.
  constexpr double kHostBoundSeconds = 40e-6;
  return fused_seconds <= std::max(library_seconds, kHostBoundSeconds);
}

Prediction combine(double compute, double memory, double overhead, Basis basis) noexcept {
  const double work = std::max(compute, memory);
  Bound bound = compute >= memory ? Bound::compute : Bound::memory;
  if (overhead > work) bound = Bound::overhead;
  return {work + overhead, bound, basis};
}

Prediction physical_limit(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads) {
  return combine(flops(spec, tokens) / fastest_flops(device, spec.dtype, threads),
                 memory_seconds(spec, tokens, device, threads), 0, device.basis);
}

}  // namespace fusedmlp::core
