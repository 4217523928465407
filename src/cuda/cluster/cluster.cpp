// cuda.cluster: an MLP of up to 256 tokens on Hopper in two overlapped launches. Plans and their cost: cost.cpp.
#include <string>

#include "core/format.h"
#include "cuda/cluster/plan.h"
#include "cuda/common/check.h"
#include "cuda/common/remembered.h"
#include "cuda/common/support.h"
#include "cuda/entries.h"

namespace fusedmlp::cuda {
namespace cluster {
namespace {

// A part of a GPU may have SMs of several groups, and a cluster lies within one.
constexpr int kLeastSms = 64;

std::string unsupported(const core::Query& query) {
  const MlpSpec& spec = query.spec;
  if (query.device.compute_capability != 90) return "needs a Hopper GPU (compute capability 9.0)";
  if (query.device.cores < kLeastSms) {
    return core::format("needs {} SMs, for clusters of them, got {}", kLeastSms, query.device.cores);
  }
  if (spec.dtype == DType::f32) return "bf16 and fp16 only";
  if (query.tokens > kMostTokens) return core::format("takes at most {} tokens", kMostTokens);
  if (spec.d_out % 8 != 0) return core::format("needs a d_out that is a multiple of 8, got {}", spec.d_out);
  return unsupported_layout(query);
}

std::size_t workspace_bytes(const core::Query& query) {
  return static_cast<std::size_t>(query.tokens * aligned_hidden(query.spec)) * size_of(query.spec.dtype);
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  Call call;
  call.products =
      two_gemms(problem, args.x, args.ldx, args.workspace, aligned_hidden(spec), args.y, args.ldy, args.tokens);
  call.activation = fast_activation(spec);
  call.gated = spec.gated;
  call.plan = remembered<choose>(spec, args.tokens, device);
  return spec.dtype == DType::bf16 ? mlp_bf16(call, stream) : mlp_f16(call, stream);
}

core::Prediction predict(const core::Query& query) {
  return prediction(query, remembered<choose>(query.spec, query.tokens, query.device).seconds);
}

}  // namespace
}  // namespace cluster

core::KernelEntry cluster_kernel() {
  return {
      .name = cluster::kName,
      .summary = "up to 256 tokens: wgmma over slices of k, summed by clusters, two overlapped launches",
      .layout = nullptr,
      .unsupported = cluster::unsupported,
      .workspace_bytes = cluster::workspace_bytes,
      .predict = cluster::predict,
      .run = cluster::run,
  };
}

}  // namespace fusedmlp::cuda
