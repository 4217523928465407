// cuda.decode: a whole MLP of few tokens in one launch. Plans and their cost: cost.cpp.
#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "core/cost_model.h"
#include "core/dispatch.h"
#include "core/format.h"
#include "cuda/common/barrier_slot.h"
#include "cuda/common/check.h"
#include "cuda/common/support.h"
#include "cuda/decode/plan.h"
#include "cuda/entries.h"

namespace fusedmlp::cuda {
namespace decode {
namespace {

// choose(), remembered on the calling thread: the search takes longer than the MLP.
const std::optional<Plan>& plan_of(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  struct Answer {
    MlpSpec spec;
    std::int64_t tokens = 0;
    Device device;
    int cores = 0, capability = 0;
    std::size_t shared = 0;
    double bandwidth = 0;
    std::optional<Plan> plan;
  };
  static thread_local std::array<Answer, 64> answers;
  Answer& answer = answers[(hash(spec) + static_cast<std::size_t>(tokens)) % answers.size()];
  if (answer.tokens != tokens || answer.spec != spec || answer.device != device.device ||
      answer.cores != device.cores || answer.capability != device.compute_capability ||
      answer.shared != device.shared_memory_per_block || answer.bandwidth != device.memory_bandwidth) {
    answer = {spec,
              tokens,
              device.device,
              device.cores,
              device.compute_capability,
              device.shared_memory_per_block,
              device.memory_bandwidth,
              choose(spec, tokens, device)};
  }
  return answer.plan;
}

std::string unsupported(const core::Query& query) {
  if (query.spec.dtype == DType::f32) return "bf16 and fp16 only";
  if (query.tokens > kMostTokens) return core::format("takes at most {} tokens", kMostTokens);
  if (std::string why = unsupported_layout(query); !why.empty()) return why;
  if (query.tokens > 0 && !plan_of(query.spec, query.tokens, query.device)) {
    return "the widths are too large for the shared memory";
  }
  return {};
}

std::size_t workspace_bytes(const core::Query& query) {
  return hidden_bytes(query.spec, query.tokens) + partial_bytes(query.spec, query.tokens, query.device);
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  const std::optional<Plan>& plan = plan_of(spec, args.tokens, device);
  if (!plan) return Status(StatusCode::internal, "spec", "no plan");
  const Result<std::uint32_t*> slot = barrier_slot(stream);
  if (!slot) return slot.status();

  Call call;
  call.products =
      two_gemms(problem, args.x, args.ldx, args.workspace, hidden_stride(spec), args.y, args.ldy, args.tokens);
  call.activation = activation_args(spec);
  call.gated = spec.gated;
  call.plan = *plan;
  call.partial = reinterpret_cast<float*>(static_cast<std::byte*>(args.workspace) + hidden_bytes(spec, args.tokens));
  call.barrier = *slot;
  call.most_shared = device.shared_memory_per_block;
  call.overlaps_predecessor = waits_for_predecessor(device);
  return spec.dtype == DType::bf16 ? mlp_bf16(call, stream) : mlp_f16(call, stream);
}

core::Prediction predict(const core::Query& query) {
  const std::optional<Plan>& plan = plan_of(query.spec, query.tokens, query.device);
  const core::Prediction limit = core::physical_limit(query.spec, query.tokens, query.device, query.threads);
  return {std::max(plan ? plan->seconds : 0.0, limit.seconds), limit.bound, Basis::modelled};
}

}  // namespace
}  // namespace decode

core::KernelEntry decode_kernel() {
  return {
      .name = decode::kName,
      .summary = "both products of few tokens in one launch that never stops reading weights",
      .layout = nullptr,
      .unsupported = decode::unsupported,
      .workspace_bytes = decode::workspace_bytes,
      .predict = decode::predict,
      .run = decode::run,
  };
}

}  // namespace fusedmlp::cuda
