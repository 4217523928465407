// One matrix product of an MLP as the kernels see it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "fusedmlp/weights.h"

namespace fusedmlp::cuda {

struct Weight {
  const void* data = nullptr;  // element (n, k) of [out, in] at n * row_stride + k * col_stride
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 0;
};

struct Bias {
  const void* data = nullptr;  // null: none
  std::int64_t stride = 1;
};

// out = f(a w^T + bias), or gated: out = f(a gate^T + gate_bias) * (a w^T + bias). All of one storage type.
struct Gemm {
  const void* a = nullptr;  // [m, k], rows dense
  std::int64_t lda = 0;
  Weight w;
  Weight gate;
  Bias bias;
  Bias gate_bias;
  void* out = nullptr;  // [m, n], rows dense
  std::int64_t ldo = 0;
  std::int64_t m = 0;
  int n = 0;
  int k = 0;
};

inline Weight weight(const MatrixView& view) { return {view.data, view.row_stride, view.col_stride}; }
inline Bias bias(const VectorView& view) { return {view.data, view.stride}; }

}  // namespace fusedmlp::cuda
