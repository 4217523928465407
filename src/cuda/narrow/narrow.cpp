// cuda.narrow_sm90 and cuda.narrow: MLPs of width <= 256 in one launch, the hidden in registers alone.
#include <algorithm>
#include <string>

#include "core/format.h"
#include "cuda/common/check.h"
#include "cuda/common/support.h"
#include "cuda/entries.h"
#include "cuda/narrow/narrow.h"

namespace fusedmlp::cuda {
namespace narrow {
namespace {

// Rows are int there, those of a whole last tile too.
constexpr std::int64_t kMostHopperTokens = (std::int64_t{1} << 31) - 256;

std::string unsupported(const core::Query& query) {
  const MlpSpec& spec = query.spec;
  if (spec.dtype == DType::f32) return "bf16 and fp16 only";
  if (const std::int64_t width = std::max(spec.d_in, spec.d_out); width > kMostWidth) {
    return core::format("for inputs and outputs of up to {} columns, got {}", kMostWidth, width);
  }
  if (spec.d_hidden < kLeastHidden) {
    return core::format("for at least {} hidden units, got {}", kLeastHidden, spec.d_hidden);
  }
  return unsupported_layout(query);
}

std::string unsupported_hopper(const core::Query& query) {
  if (query.device.compute_capability != 90) return "needs a Hopper GPU (compute capability 9.0)";
  if (query.tokens > kMostHopperTokens) {
    return core::format("for up to {} tokens, got {}", kMostHopperTokens, query.tokens);
  }
  return unsupported(query);
}

NarrowCall call_of(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  NarrowCall call;
  call.gemms = two_gemms(problem, args.x, args.ldx, nullptr, 0, args.y, args.ldy, args.tokens);
  call.activation = fast_activation(problem.spec);
  call.sms = device.cores;
  call.overlaps_predecessor = waits_for_predecessor(device);
  return call;
}

Status run_hopper(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const NarrowCall call = call_of(problem, args, device);
  const auto stream = static_cast<cudaStream_t>(args.stream);
  if (problem.spec.dtype == DType::bf16) {
    return problem.spec.gated ? hopper_bf16_gated(call, stream) : hopper_bf16(call, stream);
  }
  return problem.spec.gated ? hopper_f16_gated(call, stream) : hopper_f16(call, stream);
}

Status run_portable(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const NarrowCall call = call_of(problem, args, device);
  const auto stream = static_cast<cudaStream_t>(args.stream);
  if (problem.spec.dtype == DType::bf16) {
    return problem.spec.gated ? portable_bf16_gated(call, stream) : portable_bf16(call, stream);
  }
  return problem.spec.gated ? portable_f16_gated(call, stream) : portable_f16(call, stream);
}

std::size_t no_workspace(const core::Query&) { return 0; }

}  // namespace
}  // namespace narrow

core::KernelEntry narrow_hopper_kernel() {
  return {
      .name = narrow::kHopperName,
      .summary = "the whole MLP in one launch, width <= 256: wgmma, the hidden from accumulators to operands",
      .layout = nullptr,
      .unsupported = narrow::unsupported_hopper,
      .workspace_bytes = narrow::no_workspace,
      .predict =
          [](const core::Query& query) {
            return prediction(query, narrow::hopper_seconds(query.spec, query.tokens, query.device));
          },
      .run = narrow::run_hopper,
  };
}

core::KernelEntry narrow_kernel() {
  return {
      .name = narrow::kPortableName,
      .summary = "the whole MLP in one launch, width <= 256: mma.sync, the hidden from accumulators to operands",
      .layout = nullptr,
      .unsupported = narrow::unsupported,
      .workspace_bytes = narrow::no_workspace,
      .predict =
          [](const core::Query& query) {
            return prediction(query, narrow::portable_seconds(query.spec, query.tokens, query.device));
          },
      .run = narrow::run_portable,
  };
}

}  // namespace fusedmlp::cuda
