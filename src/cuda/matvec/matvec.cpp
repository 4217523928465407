// cuda.matvec: one or two tokens on the fp32 lanes, both products in one launch. Plans and their cost: cost.cpp.
#include "cuda/matvec/matvec.h"

#include <algorithm>
#include <string>

#include "core/cost_model.h"
#include "core/dispatch.h"
#include "core/format.h"
#include "cuda/common/barrier_slot.h"
#include "cuda/common/check.h"
#include "cuda/common/support.h"
#include "cuda/entries.h"

namespace fusedmlp::cuda {
namespace matvec {
namespace {

std::int64_t hidden_stride(const MlpSpec& spec) { return (spec.d_hidden + 7) / 8 * 8; }

std::string unsupported(const core::Query& query) {
  if (query.spec.dtype == DType::f32) return "bf16 and fp16 only";
  if (query.tokens > kMostTokens) return core::format("takes at most {} tokens", kMostTokens);
  if (std::string why = unsupported_layout(query); !why.empty()) return why;
  if (query.tokens > 0 && choose(query.spec, query.tokens, query.device).blocks == 0) {
    return "the activations are too large for the shared memory";
  }
  return {};
}

std::size_t workspace_bytes(const core::Query& query) {
  return static_cast<std::size_t>(query.tokens * hidden_stride(query.spec)) * size_of(query.spec.dtype);
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  const Result<std::uint32_t*> slot = barrier_slot(stream);
  if (!slot) return slot.status();
  Call call;
  call.products =
      two_gemms(problem, args.x, args.ldx, args.workspace, hidden_stride(spec), args.y, args.ldy, args.tokens);
  call.activation = activation_args(spec);
  call.gated = spec.gated;
  call.plan = choose(spec, args.tokens, device);
  call.barrier = *slot;
  call.most_shared = device.shared_memory_per_block;
  call.overlaps_predecessor = waits_for_predecessor(device);
  return spec.dtype == DType::bf16 ? mlp_bf16(call, stream) : mlp_f16(call, stream);
}

core::Prediction predict(const core::Query& query) {
  const core::Prediction limit = core::physical_limit(query.spec, query.tokens, query.device, query.threads);
  const double seconds = choose(query.spec, query.tokens, query.device).seconds;
  return {std::max(seconds, limit.seconds), limit.bound, Basis::modelled};
}

}  // namespace
}  // namespace matvec

core::KernelEntry matvec_kernel() {
  return {
      .name = matvec::kName,
      .summary = "both products of one or two tokens in one launch, on the fp32 lanes",
      .layout = nullptr,
      .unsupported = matvec::unsupported,
      .workspace_bytes = matvec::workspace_bytes,
      .predict = matvec::predict,
      .run = matvec::run,
  };
}

}  // namespace fusedmlp::cuda
