// Up to 256 tokens on Hopper in two overlapped launches, one a product: how a product is divided, and what is asked
// of a launch.
//
// A CTA multiplies a tile of weight rows with a tile of tokens over one of `slices` slices of k. The slices of a tile
// are a cluster: each CTA hands its sums to those that finish them, each some of the tokens. Few tiles then still
// fill the GPU, and the stages of its CTAs hold what keeps memory busy.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include "cuda/common/fast_activation.h"
#include "cuda/common/fitted_plans.h"
#include "cuda/common/two_gemms.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cuda::cluster {

inline constexpr char kName[] = "cuda.cluster";
inline constexpr int kMostTokens = 256;
inline constexpr int kBlockK = 64;                    // of a stage: 128 bytes, the span of the swizzle
inline constexpr int kSlices[] = {1, 2, 3, 4, 6, 8};  // 8 CTAs are the largest cluster that every GPU can hold
inline constexpr int kMostSlices = 8;
inline constexpr int kSharedLimit = 227 * 1024;  // of an SM, of which a CTA takes 1 KB more than it asks for

// What a kernel is compiled for.
struct Form {
  int rows;      // weight rows of a tile; of a gated one half are gates
  int tokens;    // of a tile
  int groups;    // of warpgroups, which take the blocks of k by turns
  int resident;  // CTAs an SM holds: with two the next launch's weights come early, one has more on its way
  bool slices;   // whether k may be in slices

  constexpr int stage_bytes() const { return (rows + tokens) * kBlockK * 2; }
  // Sums of all slices of the tokens that a CTA finishes.
  constexpr int received_bytes() const { return slices ? (tokens + kMostSlices) * rows * 4 : 0; }
  // What those, biases and barriers leave, in whole rounds of the groups.
  constexpr int stages() const {
    const int left = (kSharedLimit + 1024) / resident - 1024 - received_bytes() - rows * 4 - 256;
    return left / stage_bytes() / groups * groups;
  }
};
inline constexpr Form kForms[] = {{64, 32, 2, 1, true},    {128, 32, 1, 2, true}, {64, 64, 2, 1, true},
                                  {128, 64, 1, 2, true},   {64, 128, 2, 1, true}, {64, 128, 1, 2, false},
                                  {128, 128, 1, 2, false}, {64, 32, 2, 2, false}};
inline constexpr int kFormCount = static_cast<int>(std::size(kForms));

struct ProductPlan {
  int form = 0;  // of kForms
  int slices = 1;

  bool operator==(const ProductPlan&) const = default;
};

// What of the first product's weights goes to L2 while the kernels ahead still run: the first blocks of k of the
// first CTAs.
struct Drawn {
  int ctas = 0;
  int blocks = 0;
};

struct Plan {
  ProductPlan up, down;
  Drawn drawn;
  double seconds = 0;  // predicted, of both
};

inline int tiles_of(const ProductShape& shape, const Form& form) {
  const int columns = shape.gated ? form.rows / 2 : form.rows;
  return (shape.n + columns - 1) / columns;
}
inline int k_blocks_of(const ProductShape& shape) { return (shape.k + kBlockK - 1) / kBlockK; }

inline int token_tiles_of(std::int64_t tokens, const Form& form) {
  return static_cast<int>((tokens + form.tokens - 1) / form.tokens);
}
// Tokens of each tile but the last: even, and no more rows than there are tokens, for the copy engine's zeros cost
// time.
inline int tile_tokens_of(std::int64_t tokens, const Form& form) {
  const int tiles = token_tiles_of(tokens, form);
  return static_cast<int>((tokens + tiles - 1) / tiles);
}

// Whether the form takes so many tokens, every slice has some k, and it is worth trying.
bool fits(const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan);
// Predicted time of an MLP by these products.
double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const ProductPlan& down,
                         const DeviceInfo& device);
// What is worth drawing for a first product.
Drawn drawn_early(const ProductShape& shape, std::int64_t tokens, const ProductPlan& up, const DeviceInfo& device);
// The plan that is predicted to be fastest.
Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

std::string describe(const ProductPlan& plan);  // for a recording

struct Call {
  TwoGemms products;
  FastActivation activation;
  bool gated = false;
  Plan plan;
};

// Queue the MLP on the stream.
Status mlp_bf16(const Call& call, cudaStream_t stream);
Status mlp_f16(const Call& call, cudaStream_t stream);

}  // namespace fusedmlp::cuda::cluster
