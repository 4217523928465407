// cuda.decode: an MLP of few tokens in two overlapped launches. Plans and their cost: cost.cpp.
#include <string>

#include "core/format.h"
#include "cuda/common/check.h"
#include "cuda/common/remembered.h"
#include "cuda/common/support.h"
#include "cuda/decode/plan.h"
#include "cuda/entries.h"

namespace fusedmlp::cuda {
namespace decode {
namespace {

std::string unsupported(const core::Query& query) {
  const MlpSpec& spec = query.spec;
  if (spec.dtype == DType::f32) return "bf16 and fp16 only";
  if (query.tokens > kMostTokens) return core::format("takes at most {} tokens", kMostTokens);
  if (std::string why = unsupported_layout(query); !why.empty()) return why;
  if (spec.d_in % kVector != 0 || spec.d_hidden % kVector != 0) {
    return core::format("needs d_in and d_hidden that are multiples of {}, got {} and {}", kVector, spec.d_in,
                        spec.d_hidden);
  }
  return {};
}

std::size_t workspace_bytes(const core::Query& query) {
  return static_cast<std::size_t>(query.tokens * query.spec.d_hidden) * size_of(query.spec.dtype);
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  Call call;
  call.products = two_gemms(problem, args.x, args.ldx, args.workspace, spec.d_hidden, args.y, args.ldy, args.tokens);
  call.activation = activation_args(spec);
  call.plan = remembered<choose>(spec, args.tokens, device);
  call.overlaps_predecessor = waits_for_predecessor(device);
  return spec.dtype == DType::bf16 ? mlp_bf16(call, stream) : mlp_f16(call, stream);
}

core::Prediction predict(const core::Query& query) {
  return prediction(query, remembered<choose>(query.spec, query.tokens, query.device).seconds);
}

}  // namespace
}  // namespace decode

core::KernelEntry decode_kernel() {
  return {
      .name = decode::kName,
      .summary = "few tokens in two overlapped launches, weights straight to registers",
      .layout = nullptr,
      .unsupported = decode::unsupported,
      .workspace_bytes = decode::workspace_bytes,
      .predict = decode::predict,
      .run = decode::run,
  };
}

}  // namespace fusedmlp::cuda
