// An MLP as two products with the hidden stored between them, a bounded number of tokens at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/kernel.h"
#include "core/weight_rows.h"
#include "cuda/common/gemm.h"

namespace fusedmlp::cuda {

// The two products of `rows` tokens, the hidden in `hidden` with row stride `ldh`.
struct TwoGemms {
  Gemm hidden;
  Gemm out;
};
inline TwoGemms two_gemms(const core::Problem& problem, const void* x, std::int64_t ldx, void* hidden,
                          std::int64_t ldh, void* y, std::int64_t ldy, std::int64_t rows) {
  const MlpSpec& spec = problem.spec;
  const core::HiddenWeights weights = core::resolve(spec, problem.weights);
  TwoGemms both;
  both.hidden = {x,
                 ldx,
                 weight(weights.up),
                 weight(weights.gate),
                 bias(weights.bias_up),
                 bias(weights.bias_gate),
                 hidden,
                 ldh,
                 rows,
                 static_cast<int>(spec.d_hidden),
                 static_cast<int>(spec.d_in)};
  both.out = {hidden,
              ldh,
              weight(problem.weights.down),
              {},
              bias(problem.weights.bias_down),
              {},
              y,
              ldy,
              rows,
              static_cast<int>(spec.d_out),
              static_cast<int>(spec.d_hidden)};
  return both;
}

// Elements between rows of a hidden whose rows start at multiples of 16 bytes; 16-bit types.
inline std::int64_t aligned_hidden(const MlpSpec& spec) { return (spec.d_hidden + 7) / 8 * 8; }

// How many tokens a turn has whose hidden takes `row_bytes` a token: the stored hidden is bounded by 512 MiB.
inline std::int64_t turn_rows(std::int64_t tokens, std::int64_t row_bytes) {
  constexpr std::int64_t kTurnBytes = std::int64_t{512} << 20;
  return std::min(tokens, std::max<std::int64_t>(1024, kTurnBytes / row_bytes / 256 * 256));
}

inline double turns(std::int64_t tokens, std::int64_t rows) {
  const std::int64_t count = (tokens + rows - 1) / rows;
  return static_cast<double>(count);
}

// queue(products) -> Status, for each turn of `rows` tokens.
template <class Queue>
Status for_each_turn(const core::Problem& problem, const RunArgs& args, std::int64_t rows, void* hidden,
                     std::int64_t ldh, const Queue& queue) {
  const auto size = static_cast<std::int64_t>(size_of(problem.spec.dtype));
  const auto* x = static_cast<const std::byte*>(args.x);
  auto* y = static_cast<std::byte*>(args.y);
  for (std::int64_t row = 0; row < args.tokens; row += rows) {
    const TwoGemms products = two_gemms(problem, x + row * args.ldx * size, args.ldx, hidden, ldh,
                                        y + row * args.ldy * size, args.ldy, std::min(rows, args.tokens - row));
    if (Status status = queue(products); !status) return status;
  }
  return {};
}

}  // namespace fusedmlp::cuda
