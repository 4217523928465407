// Tensor maps: how the copy engine sees a matrix.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "fusedmlp/spec.h"

namespace fusedmlp::cuda::sm90 {

// A row-major matrix of 16-bit elements; address and row stride are multiples of 16 bytes.
struct Matrix {
  const void* data;
  std::int64_t rows, columns;
  std::int64_t stride;  // elements between rows; any value where there is one row
};

// Boxes of box_rows x box_columns, swizzled over the width of a box (32, 64 or 128 bytes) in shared memory.
Status encode_tensor_map(CUtensorMap& map, DType dtype, const Matrix& matrix, int box_rows, int box_columns);

}  // namespace fusedmlp::cuda::sm90
