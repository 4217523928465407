// cuda.portable: two products, the first with bias and activation in its epilogue, on instructions that every GPU
// from Ampere on has. Tiles and their cost: cost.cpp.
#include <algorithm>

#include "cuda/common/check.h"
#include "cuda/common/remembered.h"
#include "cuda/common/support.h"
#include "cuda/common/two_gemms.h"
#include "cuda/entries.h"
#include "cuda/sm80/tiles.h"

namespace fusedmlp::cuda {
namespace sm80 {
namespace {

constexpr std::size_t kAlign = 256;
// Below that the bound of an element's error has no room for the one of a fast activation.
constexpr std::int64_t kLeastFastWidth = 64;

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

struct Layout {
  std::int64_t rows;  // of a turn
  std::int64_t ldh;   // elements between rows of the hidden: 16-byte aligned
  std::size_t hidden_bytes;
  std::size_t partial_bytes;
  Product hidden, out;
  GemmPlan hidden_plan, out_plan;
};

// What the splits of this product, or of one with fewer rows, may need.
std::size_t partial_bytes(const Product& p) {
  if (p.dtype == DType::f32) return 0;
  return static_cast<std::size_t>(std::min(kMostPartials, kMostSplits * p.m * p.n * (p.gated ? 2 : 1))) *
         sizeof(float);
}

// Whether the second product starts while the first one drains, which gains 1 to 3 us. Its blocks must spread over
// the SMs: each SM has room beside the first one's blocks, or takes one block alone, or all SMs get as many as they
// hold. Else those that end first take two at once and others none (H200: GELU+bias 768x3072 at 1024 tokens, 128x192
// and then 64x128, 53.8 us, 41.2 without). Where k is split the kernel between them that adds up the sums decides.
bool starts_early(const Layout& l, std::int64_t tokens, const DeviceInfo& device) {
  constexpr std::int64_t kSplitTokens = 128;
  if (!waits_for_predecessor(device)) return false;
  if (l.hidden_plan.splits > 1) return tokens <= kSplitTokens;
  const int beside = blocks_per_sm(l.hidden, l.hidden_plan) - 1, each = blocks_per_sm(l.out, l.out_plan);
  return blocks(l.hidden, l.hidden_plan) <= device.cores * beside || each == 1 ||
         static_cast<double>(blocks(l.out, l.out_plan)) >= 0.9 * device.cores * each;
}

// along_k: all weights are [out, in].
Layout layout(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, bool along_k) {
  const auto size = static_cast<std::int64_t>(size_of(spec.dtype));
  Layout l;
  l.ldh = round_up(spec.d_hidden, 16 / size);
  l.rows = turn_rows(tokens, l.ldh * size);
  l.hidden_bytes = static_cast<std::size_t>(round_up(l.rows * l.ldh * size, kAlign));
  l.hidden = {l.rows, spec.d_hidden, spec.d_in, spec.gated, spec.dtype, along_k};
  l.out = {l.rows, spec.d_out, spec.d_hidden, false, spec.dtype, along_k};
  l.hidden_plan = choose(l.hidden, device);
  l.out_plan = choose(l.out, device);
  l.partial_bytes = std::max(partial_bytes(l.hidden), partial_bytes(l.out));
  return l;
}

std::size_t workspace_bytes(const core::Query& query) {
  const Layout& l = remembered<layout>(query.spec, query.tokens, query.device, !query.operands.in_out);
  return l.hidden_bytes + l.partial_bytes;
}

Status multiply(const GemmCall& call, DType dtype, cudaStream_t stream) {
  switch (dtype) {
    case DType::f32: return gemm_f32(call, stream);
    case DType::bf16: return call.gated ? gemm_bf16_gated(call, stream) : gemm_bf16(call, stream);
    case DType::f16: return call.gated ? gemm_f16_gated(call, stream) : gemm_f16(call, stream);
  }
  return Status(StatusCode::internal, "spec", "unknown dtype");
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  const bool along_k = !core::layout_of(spec, problem.weights, args).in_out;  // as the query's was found
  const Layout& l = remembered<layout>(spec, args.tokens, device, along_k);
  auto* hidden = static_cast<std::byte*>(args.workspace);
  GemmCall first;
  first.activation = activation_args(spec);
  if (spec.dtype != DType::f32 && std::min(spec.d_in, spec.d_hidden) >= kLeastFastWidth) {
    first.fast = fast_activation(spec);
  }
  first.gated = spec.gated;
  first.plan = l.hidden_plan;
  first.partial = reinterpret_cast<float*>(hidden + l.hidden_bytes);
  GemmCall second;
  second.plan = l.out_plan;
  second.partial = first.partial;
  second.overlaps_predecessor = starts_early(l, args.tokens, device);
  for (GemmCall* call : {&first, &second}) {
    call->finish_overlaps = waits_for_predecessor(device);
    call->shared_per_sm = device.l1_bytes;
    call->shared_per_block = device.shared_memory_per_block;
  }
  return for_each_turn(problem, args, l.rows, hidden, l.ldh, [&](const TwoGemms& products) {
    first.gemm = products.hidden;
    second.gemm = products.out;
    Status status = multiply(first, spec.dtype, stream);
    return status ? multiply(second, spec.dtype, stream) : status;
  });
}

core::Prediction predict(const core::Query& query) {
  const Layout& l = remembered<layout>(query.spec, query.tokens, query.device, !query.operands.in_out);
  const double seconds = turns(query.tokens, l.rows) * (predicted_seconds(l.hidden, l.hidden_plan, query.device) +
                                                        predicted_seconds(l.out, l.out_plan, query.device));
  return prediction(query, seconds);
}

}  // namespace
}  // namespace sm80

core::KernelEntry portable_kernel() {
  return {
      .name = sm80::kName,
      .summary = "two products with bias and activation in the first one's epilogue, mma.sync or fp32 lanes",
      .layout = nullptr,
      .unsupported = [](const core::Query&) { return std::string(); },
      .workspace_bytes = sm80::workspace_bytes,
      .predict = sm80::predict,
      .run = sm80::run,
  };
}

}  // namespace fusedmlp::cuda
