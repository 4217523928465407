// What a GPU can do at most for an MLP, and what a fused MLP would take there: the same functions for the analyser's
// predictions and for the predictions of GPU kernels, also for GPUs that are not here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/kernel.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::core {

// How products are computed; fp32 storage is either.
enum class GpuType : std::uint8_t { bf16, fp16, tf32, fp32 };
inline constexpr int kGpuTypeCount = 4;

std::optional<GpuType> gpu_type(std::string_view name) noexcept;  // "bf16", "fp16", "tf32", "fp32"
GpuType gpu_type(DType dtype) noexcept;

// What kernels reach of the peaks where nothing was measured: the H200's shares, 797 of 989 TFLOP/s in a bf16 product
// of 8192 x 8192 x 8192 and 4540 of 4800 GB/s in a kernel that streams.
inline constexpr double kUsualFlopsShare = 797.0 / 989.0;
inline constexpr double kUsualBandwidthShare = 4540.0 / 4800.0;

struct GpuModel {
  std::string name;
  int sm = 0;                             // compute capability x 10; 0: no NVIDIA GPU, or not known
  int sms = 0;                            // 0: not known
  double peak_flops[kGpuTypeCount] = {};  // dense, a second; 0: not known
  double peak_bandwidth = 0;              // bytes a second; 0: not known
  double flops_share = kUsualFlopsShare;  // of the peaks that kernels reach
  double bandwidth_share = kUsualBandwidthShare;
  Basis basis = Basis::modelled;  // of the shares
  std::string origin;             // where the figures come from, in words
};

// By the driver's name ("NVIDIA A100-SXM4-80GB") or the table's ("A100 PCIe"). Empty: not in the table.
std::optional<GpuModel> find_gpu(std::string_view name);

// A known GPU of the same compute capability, scaled by the number of SMs; origin says so. Empty: none is alike.
std::optional<GpuModel> estimate_gpu(std::string_view name, int sm, int sms);

// Names of the table, separated by commas.
std::string gpu_names();

// The arithmetic and the least traffic of some MLPs: weights read once, x read once, y written once.
struct GpuWork {
  double flops = 0;
  double bytes = 0;
  std::int64_t tokens = 0;
  std::int64_t width = 0;  // the wider of d_in and d_out
};

GpuWork gpu_work(const MlpSpec& spec, std::int64_t tokens) noexcept;

// max(flops / rate, ramp + bytes / bandwidth), at the rates that kernels reach. Empty: the type's rate or the
// bandwidth is not known. Bound says which of the two it is.
std::optional<Prediction> gpu_limit(const GpuModel& gpu, GpuType type, const GpuWork& work);

// Which part of the model's stated efficiencies a fused MLP of this size falls under, its time, and the basis. Empty
// as above. Of kernels written for the GPU, as those for Hopper are; core/gpu_portable.h has the others.
std::optional<Prediction> gpu_fused(const GpuModel& gpu, GpuType type, const GpuWork& work);
const char* gpu_fused_form(const GpuWork& work) noexcept;  // "decode", "narrow", "prefill"

// Why no fused kernel of this library is made for that GPU and type; empty: one is.
std::string gpu_unsupported(const GpuModel& gpu, std::optional<GpuType> type);

}  // namespace fusedmlp::core
