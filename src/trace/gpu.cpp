#include "trace/gpu.h"

#include <algorithm>
#include <iterator>

#include "core/format.h"

namespace fusedmlp::trace {
namespace {

constexpr const char* kUnknown = "unknown";

bool is_amd(const DeviceProperties& device) {
  return device.name.find("AMD") != std::string::npos || device.name.find("Instinct") != std::string::npos;
}

}  // namespace

core::GpuModel gpu_of(const DeviceProperties& device) {
  // An AMD device's "compute capability" is its gfx number.
  const int sm = device.compute_major > 0 && !is_amd(device) ? device.compute_major * 10 + device.compute_minor : 0;
  std::optional<core::GpuModel> gpu = core::find_gpu(device.name);
  if (gpu && device.sms > 0 && device.sms != gpu->sms && sm == gpu->sm) {
    gpu = core::estimate_gpu(device.name, sm, device.sms);
  }
  if (!gpu && sm > 0) gpu = core::estimate_gpu(device.name, sm, device.sms);
  if (gpu) return *std::move(gpu);
  core::GpuModel unknown;
  unknown.name = device.name;
  unknown.sm = sm;
  unknown.sms = std::max(device.sms, 0);
  unknown.origin = kUnknown;
  return unknown;
}

void set_peaks(core::GpuModel& gpu, double peak_flops, double peak_bandwidth) {
  if (peak_flops <= 0 && peak_bandwidth <= 0) return;
  if (peak_flops > 0) std::fill(std::begin(gpu.peak_flops), std::end(gpu.peak_flops), peak_flops);
  if (peak_bandwidth > 0) gpu.peak_bandwidth = peak_bandwidth;
  // Shares were measured for the table's peaks only.
  gpu.basis = Basis::modelled;
  gpu.flops_share = core::kUsualFlopsShare;
  gpu.bandwidth_share = core::kUsualBandwidthShare;
  gpu.origin = peak_flops > 0 && peak_bandwidth > 0
                   ? std::string("given")
                   : core::format("{} given, else {}", peak_flops > 0 ? "FLOP/s" : "bandwidth", gpu.origin);
}

AnalyzedDevice described(const core::GpuModel& gpu) {
  AnalyzedDevice out;
  out.name = gpu.name;
  const double flops = gpu.peak_flops[static_cast<int>(core::GpuType::bf16)];
  if (flops > 0) out.peak_flops = flops;
  if (gpu.peak_bandwidth > 0) out.peak_bandwidth = gpu.peak_bandwidth;
  out.basis = gpu.origin;
  return out;
}

}  // namespace fusedmlp::trace
