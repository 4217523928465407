// fp32 products on the plain lanes, as exact as PyTorch's default (no TF32), with bias and activation applied to the
// sums in registers. In a gated product a thread holds the gate and the up of the same outputs.
#include "cuda/common/activations.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/simt_gemm.cuh"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/sm80/tiles.h"

namespace fusedmlp::cuda::sm80 {
namespace {

template <bool kDual, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    simt_kernel(const __grid_constant__ Gemm g, const __grid_constant__ ActivationArgs activation) {
  __shared__ typename Tile::Shared shared;
  ptx::grid_dependency_launch();
  ptx::grid_dependency_wait();
  const int columns = (g.n + Tile::kN - 1) / Tile::kN;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x / columns) * Tile::kM;
  const int col = static_cast<int>(blockIdx.x % columns) * Tile::kN;
  float sums[Tile::kWeights][Tile::kRows][Tile::kCols];
  simt_product<float, Tile>(g, row, col, shared, sums);
  with_form(activation.form, [&](auto form) {
    constexpr ActivationForm kForm = decltype(form)::value;
#pragma unroll
    for (int c = 0; c < Tile::kCols; ++c) {
      const int n = col + simt_col(c);
      if (n >= g.n) break;
      const float up_bias = bias_at<float>(g.bias, n);
      [[maybe_unused]] const float gate_bias = kDual ? bias_at<float>(g.gate_bias, n) : 0.0f;
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) {
        const std::int64_t m = row + simt_row(r);
        if (m >= g.m) break;
        float* to = static_cast<float*>(g.out) + m * g.ldo + n;
        if constexpr (kDual) {
          *to = gated<kForm>(activation, sums[1][r][c] + gate_bias, sums[0][r][c] + up_bias);
        } else {
          *to = activate<kForm>(activation, sums[0][r][c] + up_bias);
        }
      }
    }
  });
}

template <bool kDual, int kBlockM, int kBlockN>
Status launch_simt(const GemmCall& call, cudaStream_t stream) {
  using Tile = SimtTile<kBlockM, kBlockN, 16, kDual>;
  Launch how;
  how.grid = static_cast<unsigned>(tiles(call.gemm.m, call.gemm.n, Tile::kM, Tile::kN));
  how.block = Tile::kThreads;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  return launch<simt_kernel<kDual, Tile>>(kName, how, 0, call.gemm, call.activation);
}

}  // namespace

Status gemm_f32(const GemmCall& call, cudaStream_t stream) {
  const bool large = call.plan.tile == TileName::large;
  if (call.gated) return large ? launch_simt<true, 128, 64>(call, stream) : launch_simt<true, 64, 64>(call, stream);
  return large ? launch_simt<false, 128, 128>(call, stream) : launch_simt<false, 64, 64>(call, stream);
}

}  // namespace fusedmlp::cuda::sm80
