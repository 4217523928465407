// cuda.sm90: the two products of many tokens on Hopper, the second started while the first one drains.
#include <algorithm>
#include <string>

#include "core/format.h"
#include "cuda/common/check.h"
#include "cuda/common/remembered.h"
#include "cuda/common/support.h"
#include "cuda/common/two_gemms.h"
#include "cuda/entries.h"
#include "cuda/sm90/split.h"

namespace fusedmlp::cuda {
namespace sm90 {
namespace {

constexpr double kOverlapSeconds = 2.83e-6;  // of the second product's start with the first one's end (H200)
// What is lost where the first product's tiles fill all SMs once: the second one finds none to start on. Over
// several rounds they fall free one after another. Seen at inputs of up to 256 columns
// (tests/data/gpu/narrow_mlps.json).
constexpr double kOverlapLost = 2.6e-6;
constexpr std::int64_t kNarrow = 256;

double overlap(const MlpSpec& spec, std::int64_t rows, const DeviceInfo& device) {
  if (spec.d_in > kNarrow) return kOverlapSeconds;
  const double filled = static_cast<double>(rows * spec.d_hidden) / (128.0 * 128.0 * device.cores);
  return kOverlapSeconds - kOverlapLost * std::min(filled, 1 / (filled * filled));
}

Product hidden_product(const MlpSpec& spec, std::int64_t rows) {
  const bool activated = spec.activation != Activation::identity;
  return {rows, spec.d_hidden, spec.d_in, spec.gated, activated, spec.dtype, false};
}
Product out_product(const MlpSpec& spec, std::int64_t rows) {
  return {rows, spec.d_out, spec.d_hidden, false, false, spec.dtype, true};
}

struct Layout {
  std::int64_t rows;  // of a turn
  std::int64_t ldh;   // elements between rows of the hidden: 16-byte aligned
  Choice hidden, out;
};

Layout layout(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  Layout l;
  l.ldh = aligned_hidden(spec);
  l.rows = turn_rows(tokens, l.ldh * 2);
  l.hidden = choose(hidden_product(spec, l.rows), device);
  l.out = choose(out_product(spec, l.rows), device);
  return l;
}

std::string unsupported(const core::Query& query) {
  if (query.device.compute_capability != 90) return "needs a Hopper GPU (compute capability 9.0)";
  if (query.spec.dtype == DType::f32) return "bf16 and fp16 only";
  if (query.spec.d_out % 8 != 0) {  // the copy engine would write the gaps between rows of y
    return core::format("needs a d_out that is a multiple of 8, got {}", query.spec.d_out);
  }
  return unsupported_layout(query);
}

std::size_t workspace_bytes(const core::Query& query) {
  const Layout& l = remembered<layout>(query.spec, query.tokens, query.device);
  return static_cast<std::size_t>(l.rows * l.ldh) * size_of(query.spec.dtype);
}

Status multiply_up(const GemmCall& call, DType dtype, bool gated, cudaStream_t stream) {
  if (dtype == DType::bf16) return gated ? gemm_bf16_gated(call, stream) : gemm_bf16(call, stream);
  return gated ? gemm_f16_gated(call, stream) : gemm_f16(call, stream);
}

Status multiply_down(const GemmCall& call, int split, DType dtype, cudaStream_t stream) {
  if (split < 0) return dtype == DType::bf16 ? gemm_bf16(call, stream) : gemm_f16(call, stream);
  return dtype == DType::bf16 ? split_bf16(call, split, stream) : split_f16(call, split, stream);
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  const Layout& l = remembered<layout>(spec, args.tokens, device);
  GemmCall first;
  first.activation = fast_activation(spec);
  first.tile = l.hidden.tile;
  first.sms = device.cores;
  first.overlaps_predecessor = true;
  GemmCall second;
  second.tile = l.out.tile;
  second.sms = device.cores;
  second.overlaps_predecessor = l.out.overlaps;
  second.second = true;
  return for_each_turn(problem, args, l.rows, args.workspace, l.ldh, [&](const TwoGemms& products) {
    first.gemm = products.hidden;
    second.gemm = products.out;
    draw_weights(first, products.out);
    const Status status = multiply_up(first, spec.dtype, spec.gated, stream);
    return status ? multiply_down(second, l.out.split, spec.dtype, stream) : status;
  });
}

core::Prediction predict(const core::Query& query) {
  const Layout& l = remembered<layout>(query.spec, query.tokens, query.device);
  return prediction(
      query, turns(query.tokens, l.rows) * predicted_seconds(query.spec, l.rows, l.hidden, l.out, query.device));
}

}  // namespace

double predicted_seconds(const MlpSpec& spec, std::int64_t rows, const Choice& hidden, const Choice& out,
                         const DeviceInfo& device) {
  return predicted_seconds(hidden_product(spec, rows), hidden, device) +
         predicted_seconds(out_product(spec, rows), out, device) - overlap(spec, rows, device);
}

}  // namespace sm90

core::KernelEntry prefill_kernel() {
  return {
      .name = sm90::kName,
      .summary = "two wgmma products fed by the copy engine, bias and activation in the first one's epilogue",
      .layout = nullptr,
      .unsupported = sm90::unsupported,
      .workspace_bytes = sm90::workspace_bytes,
      .predict = sm90::predict,
      .run = sm90::run,
  };
}

}  // namespace fusedmlp::cuda
