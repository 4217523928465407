// The caller's weights, described where they lie. Nothing here owns memory.
#pragma once

#include <cstdint>

#include "fusedmlp/spec.h"

namespace fusedmlp {
inline namespace v0 {

// A matrix of logical shape [rows, cols] = [out, in]; strides in elements. One of the strides is 1 (or its
// extent is <= 1) and the other is at least the unit-stride extent:
//   nn.Linear  [out, in]  row_stride = in,  col_stride = 1
//   Conv1D     [in, out]  row_stride = 1,   col_stride = out
struct MatrixView {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 0;

  // A dense [out, in] matrix, as nn.Linear keeps it.
  static MatrixView out_in(const void* data, std::int64_t out, std::int64_t in) { return {data, out, in, in, 1}; }
  // A dense [in, out] matrix, as GPT-2's Conv1D keeps it.
  static MatrixView in_out(const void* data, std::int64_t in, std::int64_t out) { return {data, out, in, 1, out}; }
};

struct VectorView {
  const void* data = nullptr;
  std::int64_t size = 0;
  std::int64_t stride = 1;  // elements
};

// All matrices and biases have the spec's dtype. Unused members stay empty (data == nullptr).
//   plain          up, down
//   gated, apart   gate, up, down
//   gated, packed  gate_up [2 * d_hidden, d_in] in the spec's gate_order, down; its bias is bias_gate_up
//                  (size 2 * d_hidden, same order; spec.bias_gate and spec.bias_up are then equal)
struct MlpWeights {
  MatrixView gate;     // [d_hidden, d_in]
  MatrixView up;       // [d_hidden, d_in]
  MatrixView gate_up;  // [2 * d_hidden, d_in]
  MatrixView down;     // [d_out, d_hidden]
  VectorView bias_gate;
  VectorView bias_up;
  VectorView bias_gate_up;
  VectorView bias_down;
};

// Ok, or which member does not fit the spec, what it was and what is accepted. Looks at shapes, strides and
// null pointers; reads no data.
Status validate(const MlpSpec& spec, const MlpWeights& weights);

}  // namespace v0
}  // namespace fusedmlp
