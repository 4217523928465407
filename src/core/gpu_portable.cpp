#include "core/gpu_portable.h"

#include <algorithm>

#include "core/cost_model.h"
#include "core/sm_rates.h"

namespace fusedmlp::core {
namespace {

// Fitted to what src/cuda/sm80/cost.cpp predicts for MLPs of the benchmarks at 64 to 8192 tokens on A100, L40S, L4,
// B200 and RTX 3090, 4090 and 5090, which chooses among five tiles and splits of k: 8.6 % off in the mean, within 20
// % but for one in fifteen. tests/gpu/portable_model_test.cpp holds the two together.
constexpr double kShare = 0.67;                     // of the tensor cores' peak
constexpr double kShareNewer = 0.39;                // from Hopper on, where mma.sync reaches less of it
constexpr double kReadShare = 0.73;                 // of the memory's peak
constexpr double kProductUs = 3.6, kGatedUs = 0.8;  // a launch, its first loads and last stores
constexpr double kTile = 128.0 * 256;               // rows x weight rows that an SM does at once
constexpr double kTileUs = 2.9;                     // between two of them
// SMs that have no whole tile: about a fifth of a tile of 128 x 128 over so much of k.
constexpr double kLeftTiles = 0.2 * 128 * 128;
constexpr std::int64_t kLeftDepth = 600;

// Like src/cuda/decode/cost.cpp, whose kernel takes up to 32 tokens: 9 % off in the mean.
constexpr std::int64_t kDecodeTokens = 32;
constexpr double kDecodeShare = 0.93, kDecodeUs = 1.2, kDecodeTokenUs = 0.1;

constexpr int kUsualSms = 128;  // where the number is not known

struct Product {
  std::int64_t n, k;
  bool gated;
};

double product_seconds(const GpuModel& gpu, const Product& p, std::int64_t tokens, std::size_t element) {
  const double sms = gpu.sms > 0 ? gpu.sms : kUsualSms;
  const double rate = gpu.peak_flops[static_cast<int>(GpuType::bf16)] * (gpu.sm >= 90 ? kShareNewer : kShare);
  const double m = static_cast<double>(tokens), n = static_cast<double>(p.n), k = static_cast<double>(p.k);
  const double weights = p.gated ? 2 : 1;
  const double left = 2 * kLeftTiles * weights * static_cast<double>(std::min(p.k, kLeftDepth)) / (rate / sms);
  const double compute = 2 * m * n * k * weights / rate + m * n * weights / kTile / sms * kTileUs * 1e-6 + left;
  const double bytes = static_cast<double>(element) * (weights * n * k + m * k + m * n);
  return std::max(compute, bytes / (kReadShare * gpu.peak_bandwidth)) +
         (kProductUs + (p.gated ? kGatedUs : 0)) * 1e-6;
}

}  // namespace

bool only_portable(const GpuModel& gpu) noexcept { return gpu.sm != 90; }

std::optional<Prediction> gpu_portable(const GpuModel& gpu, const MlpSpec& spec, std::int64_t tokens) {
  std::optional<Prediction> prediction = gpu_limit(gpu, gpu_type(spec.dtype), gpu_work(spec, tokens));
  if (!prediction) return {};
  const double limit = prediction->seconds;
  const std::size_t element = size_of(spec.dtype);
  double seconds = product_seconds(gpu, {spec.d_hidden, spec.d_in, spec.gated}, tokens, element) +
                   product_seconds(gpu, {spec.d_out, spec.d_hidden, false}, tokens, element);
  if (tokens <= kDecodeTokens) {
    const double us = kDecodeUs + kDecodeTokenUs * static_cast<double>(tokens);
    seconds = std::min(seconds, limit / kDecodeShare + us * 1e-6);
  }
  prediction->seconds = std::max(seconds, limit);
  prediction->basis = Basis::modelled;
  return prediction;
}

const char* gpu_portable_form(std::int64_t tokens) noexcept {
  return tokens <= kDecodeTokens ? "decode" : "portable";
}

double gpu_library_seconds(const GpuModel& gpu, const MlpSpec& spec, std::int64_t tokens) noexcept {
  DeviceInfo device;
  device.device = Device::cuda();
  device.cores = gpu.sms > 0 ? gpu.sms : kUsualSms;
  device.memory_bandwidth = kMemoryEfficiency * gpu.peak_bandwidth;
  device.launch_seconds = kKernelGapSeconds;
  device.flops_per_core[static_cast<int>(spec.dtype)] =
      gpu.peak_flops[static_cast<int>(gpu_type(spec.dtype))] / device.cores;
  return library_seconds(spec, tokens, device);
}

}  // namespace fusedmlp::core
