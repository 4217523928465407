// Some dozens of tokens on Hopper in two overlapped launches, one a product: how a product is divided, and what is
// asked of a launch.
//
// A CTA multiplies a tile of weight rows with all tokens over one of `slices` slices of k. The slices of a tile are a
// cluster, which sums them through its shared memory, each CTA some of the tokens. Few tiles then still fill the GPU,
// and the stages of its CTAs hold what keeps memory busy.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include "cuda/common/activations.h"
#include "cuda/common/fitted_plans.h"
#include "cuda/common/two_gemms.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cuda::cluster {

inline constexpr char kName[] = "cuda.cluster";
inline constexpr int kMostTokens = 128;
inline constexpr int kBlockK = 64;                    // of a stage: 128 bytes, the span of the swizzle
inline constexpr int kSlices[] = {1, 2, 3, 4, 6, 8};  // 8 CTAs are the largest cluster that every GPU can hold
inline constexpr int kSharedLimit = 227 * 1024;       // of an SM, of which a CTA takes 1 KB more than it asks for
inline constexpr int kStageBytes[] = {96 << 10, 216 << 10};  // of a CTA where an SM holds two of them, or one

// What a kernel is compiled for.
struct Form {
  int rows;      // weight rows of a tile; of a gated one half are gates
  int tokens;    // at most
  int resident;  // CTAs an SM holds: with two the next launch's weights come early, one has more on its way

  constexpr int stage_bytes() const { return (rows + tokens) * kBlockK * 2; }
  constexpr int stages() const { return kStageBytes[resident == 1] / stage_bytes(); }
};
inline constexpr Form kForms[] = {{64, 64, 1},  {64, 64, 2},  {128, 64, 1},  {128, 64, 2},
                                  {64, 128, 1}, {64, 128, 2}, {128, 128, 1}, {128, 128, 2}};
inline constexpr int kFormCount = static_cast<int>(std::size(kForms));

struct ProductPlan {
  int form = 0;  // of kForms
  int slices = 1;
};

struct Plan {
  ProductPlan up, down;
  double seconds = 0;  // predicted, of both
};

// Whether outputs are finished from the accumulators. Up to kMostTokensShared tokens all threads share them out
// instead, where a few would hold them: GeGLU 768x3072 took 8.6 us instead of 8.8 at 24 tokens, 9.3 instead of 9.2 at
// 48 (H200).
inline constexpr int kMostTokensShared = 32;
constexpr bool finishes_alone(const ProductPlan& plan, std::int64_t tokens) {
  return plan.slices == 1 && tokens > kMostTokensShared;
}

inline int tiles_of(const ProductShape& shape, const Form& form) {
  const int columns = shape.gated ? form.rows / 2 : form.rows;
  return (shape.n + columns - 1) / columns;
}
inline int k_blocks_of(const ProductShape& shape) { return (shape.k + kBlockK - 1) / kBlockK; }

// Whether the form takes so many tokens, every slice has some k, and it is worth trying.
bool fits(const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan);
// Predicted time of an MLP by these products.
double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const ProductPlan& down,
                         const DeviceInfo& device);
// The plan that is predicted to be fastest.
Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

std::string describe(const ProductPlan& plan);  // for a recording

struct Call {
  TwoGemms products;
  ActivationArgs activation;
  bool gated = false;
  Plan plan;
};

// Queue the MLP on the stream.
Status mlp_bf16(const Call& call, cudaStream_t stream);
Status mlp_f16(const Call& call, cudaStream_t stream);

}  // namespace fusedmlp::cuda::cluster
