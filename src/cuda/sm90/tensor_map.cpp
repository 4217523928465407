#include "cuda/sm90/tensor_map.h"

#include <cuda_runtime_api.h>

#include "core/format.h"
#include "cuda/common/check.h"
#include "cuda/common/driver.h"

namespace fusedmlp::cuda::sm90 {

Status encode_tensor_map(CUtensorMap& map, DType dtype, const Matrix& matrix, int box_rows, int box_columns) {
  const Result<const Driver*> found = driver();
  if (!found) return found.status();
  const std::int64_t stride = matrix.rows > 1 ? matrix.stride : (matrix.columns + 7) / 8 * 8;
  const cuuint64_t extents[] = {static_cast<cuuint64_t>(matrix.columns), static_cast<cuuint64_t>(matrix.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * 2};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const CUtensorMapSwizzle swizzle = box_columns == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : box_columns == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                     : box_columns == 16 ? CU_TENSOR_MAP_SWIZZLE_32B
                                                         : CU_TENSOR_MAP_SWIZZLE_NONE;
  const auto encode = [&] {
    return (*found)->tensor_map_encode_tiled(
        &map, dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
        const_cast<void*>(matrix.data), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CUresult result = encode();
  if (result != CUDA_SUCCESS) {
    // A thread that has asked CUDA for nothing yet has no context, and the driver, unlike the runtime, makes none.
    const OutsideCapture binding;
    if (Status status = check(cudaFree(nullptr), "begin"); !status) return status;
    result = encode();
  }
  if (result == CUDA_SUCCESS) return {};
  return Status(StatusCode::internal, "",
                core::format("the driver refused a tensor map of {} x {} elements, row stride {} (error {})",
                             matrix.rows, matrix.columns, stride, static_cast<int>(result)));
}

}  // namespace fusedmlp::cuda::sm90
