// The tiles of the portable matrix kernels and what is asked of one launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/kernel.h"
#include "cuda/common/activations.h"
#include "cuda/common/fast_activation.h"
#include "cuda/common/gemm.h"

namespace fusedmlp::cuda::sm80 {

enum class TileName : int { small, medium, square, wide, large };
inline constexpr int kTileCount = 5;

// A block computes kM rows by kWeightRows rows of weights: as many output columns, or half of them when each needs a
// gate and an up. Warps are kWarpsM x kWarpsN.
struct TileShape {
  int m;
  int weight_rows;
  int warps_m;
  int warps_n;
  int blocks_per_sm;           // that the register budget is cut for
  int stages;                  // of shared memory that are worth having, at least 3
  int copy_parts = 1;          // that a stage is copied in, between the products of another
  bool plain_along_k = false;  // for products without gates on weights [out, in] alone
  constexpr int threads() const { return 32 * warps_m * warps_n; }
};
inline constexpr int kDepth = 64;  // k of a stage; 128 bytes of 16-bit elements, the span of the swizzle
inline constexpr TileShape kTiles[kTileCount] = {{16, 128, 1, 4, 3, 4},
                                                 {64, 128, 2, 2, 2, 4},
                                                 {128, 128, 2, 2, 2, 3},
                                                 {128, 192, 2, 4, 1, 4, 1, true},
                                                 {128, 256, 2, 4, 1, 4, 2}};

constexpr std::size_t stage_bytes(const TileShape& tile) {
  return static_cast<std::size_t>(tile.m + tile.weight_rows) * kDepth * 2;
}
// Stages that fit `blocks_per_sm` blocks of an SM, or one block where that leaves fewer than two.
constexpr int stages(const TileShape& tile, std::size_t shared_per_sm, std::size_t shared_per_block) {
  constexpr std::size_t kReserved = 2048;  // the system's share of a block, and the biases
  const std::size_t share = shared_per_sm / static_cast<std::size_t>(tile.blocks_per_sm) - kReserved;
  std::size_t count = (share < shared_per_block ? share : shared_per_block) / stage_bytes(tile);
  if (count < 2) count = shared_per_block / stage_bytes(tile);
  return count < static_cast<std::size_t>(tile.stages) ? static_cast<int>(count) : tile.stages;
}

// How to compute one product.
struct GemmPlan {
  TileName tile = TileName::large;
  int splits = 1;  // of k, each a block; their sums meet in `partial`
};

// Bounds of the splits, and so of the memory for their sums, which then grows with the rows.
inline constexpr int kMostSplits = 16;
inline constexpr std::int64_t kMostPartials = std::int64_t{1} << 22;  // elements

// One product and its epilogue.
struct GemmCall {
  Gemm gemm;
  ActivationArgs activation;
  FastActivation fast;  // instead of it, if that is ActivationShape::normal; 16-bit types
  bool gated = false;
  GemmPlan plan;
  std::size_t shared_per_sm = 0;     // of the device, bytes
  std::size_t shared_per_block = 0;  // the most one block may have
  float* partial = nullptr;          // [splits, gated ? 2 : 1, m, n], with more than one split
  bool overlaps_predecessor = false;
  bool finish_overlaps = false;  // the kernel that adds up the splits starts early
};

// Queue the product on the stream. One function a storage type and form, each compiled apart.
Status gemm_bf16(const GemmCall& call, cudaStream_t stream);
Status gemm_bf16_gated(const GemmCall& call, cudaStream_t stream);
Status gemm_f16(const GemmCall& call, cudaStream_t stream);
Status gemm_f16_gated(const GemmCall& call, cudaStream_t stream);
// fp32, on the plain lanes, without splits: large is 128 x 128 (gated 128 x 64), everything else 64 x 64.
Status gemm_f32(const GemmCall& call, cudaStream_t stream);

// Sizes of a product, and how long a plan takes for it by the cost model.
struct Product {
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
  bool gated;
  DType dtype;
  bool along_k = true;  // the weights are [out, in]
};
std::int64_t blocks(const Product& product, const GemmPlan& plan);  // of its launch
int blocks_per_sm(const Product& product, const GemmPlan& plan);    // that run side by side
double predicted_seconds(const Product& product, const GemmPlan& plan, const DeviceInfo& device);
GemmPlan choose(const Product& product, const DeviceInfo& device);
std::string describe(int m, int n, int splits, int stages);  // for a recording

inline constexpr char kName[] = "cuda.portable";

}  // namespace fusedmlp::cuda::sm80
