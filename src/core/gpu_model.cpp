#include "core/gpu_model.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "core/cost_model.h"
#include "core/format.h"
#include "core/gpu_constants.h"

namespace fusedmlp::core {
namespace {

constexpr const char* kTypeNames[] = {"bf16", "fp16", "tf32", "fp32"};

// Lower-case words of letters and digits.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool fits(const GpuConstants& gpu, const std::vector<std::string>& words) {
  const auto in = [&words](const std::string& word) { return has(words, word); };
  const std::vector<std::string> wanted = words_of(gpu.words);
  const std::vector<std::string> unlike = words_of(gpu.unlike);
  return std::all_of(wanted.begin(), wanted.end(), in) && std::none_of(unlike.begin(), unlike.end(), in);
}

GpuModel model_of(const GpuConstants& gpu) {
  GpuModel model;
  model.name = gpu.name;
  model.sm = gpu.sm;
  model.sms = gpu.sms;
  for (int type = 0; type < kGpuTypeCount; ++type) model.peak_flops[type] = gpu.tflops[type] * 1e12;
  model.peak_bandwidth = gpu.bandwidth * 1e9;
  const bool measured = gpu.measured_tflops > 0 && gpu.measured_bandwidth > 0;
  model.flops_share = measured ? gpu.measured_tflops / gpu.tflops[0] : kUsualFlopsShare;
  model.bandwidth_share = measured ? gpu.measured_bandwidth / gpu.bandwidth : kUsualBandwidthShare;
  model.basis = measured ? Basis::measured : Basis::modelled;
  model.origin = format("table: {}", gpu.source);
  return model;
}

// Which row of the table stands for a compute capability. GeForce cards have half the tensor rate an SM of their
// siblings for data centres.
const char* like(int sm, bool geforce) {
  switch (sm) {
    case 70: return "V100 SXM";
    case 75: return "T4";
    case 80: return "A100 SXM 80GB";
    case 86: return "RTX 3090";
    case 89: return geforce ? "RTX 4090" : "L40S";
    case 90: return "H100 SXM";
    case 100:
    case 103: return "B200";
    case 120: return "RTX 5090";
    default: return nullptr;
  }
}

const FusedShare& fused_share(const GpuWork& work) {
  for (const FusedShare& share : kFusedShares) {
    if ((share.max_width == 0 || work.width <= share.max_width) &&
        (share.max_tokens == 0 || work.tokens <= share.max_tokens)) {
      return share;
    }
  }
  return kFusedShares[std::size(kFusedShares) - 1];
}

}  // namespace

std::optional<GpuType> gpu_type(std::string_view name) noexcept {
  for (int type = 0; type < kGpuTypeCount; ++type) {
    if (name == kTypeNames[type]) return static_cast<GpuType>(type);
  }
  return {};
}

GpuType gpu_type(DType dtype) noexcept {
  return dtype == DType::bf16 ? GpuType::bf16 : dtype == DType::f16 ? GpuType::fp16 : GpuType::fp32;
}

std::optional<GpuModel> find_gpu(std::string_view name) {
  const std::vector<std::string> words = words_of(name);
  // A slice of a GPU is no GPU of the table.
  if (has(words, "mig")) return {};
  for (const GpuConstants& gpu : kGpus) {
    if (words_of(gpu.name) == words || fits(gpu, words)) return model_of(gpu);
  }
  return {};
}

std::optional<GpuModel> estimate_gpu(std::string_view name, int sm, int sms) {
  const std::vector<std::string> words = words_of(name);
  if (sms <= 0 || has(words, "amd") || has(words, "instinct") || has(words, "radeon")) return {};
  const char* const reference = like(sm, has(words, "geforce"));
  if (reference == nullptr) return {};
  GpuModel model = *find_gpu(reference);
  const double scale = static_cast<double>(sms) / model.sms;
  for (double& rate : model.peak_flops) rate *= scale;
  model.peak_bandwidth *= scale;
  model.flops_share = kUsualFlopsShare;
  model.bandwidth_share = kUsualBandwidthShare;
  model.basis = Basis::modelled;
  model.origin = format("estimated from compute capability {}.{} and {} SMs: {} scaled by {:.2f}", sm / 10, sm % 10,
                        sms, reference, scale);
  model.name = name;
  model.sm = sm;
  model.sms = sms;
  return model;
}

std::string gpu_names() {
  std::string names;
  for (const GpuConstants& gpu : kGpus) {
    names += names.empty() ? "" : ", ";
    names += gpu.name;
  }
  return names;
}

GpuWork gpu_work(const MlpSpec& spec, std::int64_t tokens) noexcept {
  return {flops(spec, tokens), weight_bytes(spec) + activation_bytes(spec, tokens), tokens,
          std::max(spec.d_in, spec.d_out)};
}

std::optional<Prediction> gpu_limit(const GpuModel& gpu, GpuType type, const GpuWork& work) {
  const double rate = gpu.peak_flops[static_cast<int>(type)] * gpu.flops_share;
  const double bandwidth = gpu.peak_bandwidth * gpu.bandwidth_share;
  if (!(rate > 0) || !(bandwidth > 0)) return {};
  const double compute = work.flops / rate;
  const double memory = kStreamRampUs * 1e-6 + work.bytes / bandwidth;
  return combine(compute, memory, 0, gpu.basis);
}

std::optional<Prediction> gpu_fused(const GpuModel& gpu, GpuType type, const GpuWork& work) {
  std::optional<Prediction> prediction = gpu_limit(gpu, type, work);
  if (!prediction) return {};
  const FusedShare& share = fused_share(work);
  prediction->seconds = prediction->seconds / share.share + share.fixed_us * 1e-6;
  prediction->basis = Basis::modelled;
  return prediction;
}

const char* gpu_fused_form(const GpuWork& work) noexcept { return fused_share(work).name; }

std::string gpu_unsupported(const GpuModel& gpu, std::optional<GpuType> type) {
  const bool unknown = gpu.sm == 0 && gpu.name.empty();  // it may be any
  if (gpu.sm < 80 && !unknown) return "no kernel for this GPU";
  if (type && *type != GpuType::bf16 && *type != GpuType::fp16) {
    return format("no GPU kernel for {}, only for bf16 and fp16", kTypeNames[static_cast<int>(*type)]);
  }
  return {};
}

}  // namespace fusedmlp::core
