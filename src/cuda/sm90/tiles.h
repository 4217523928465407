// The tiles of the Hopper matrix kernel, and what is asked of one launch.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include "cuda/common/fast_activation.h"
#include "cuda/common/gemm.h"
#include "fusedmlp/device.h"
#include "fusedmlp/status.h"

namespace fusedmlp::cuda::sm90 {

inline constexpr char kName[] = "cuda.sm90";
inline constexpr int kSharedLimit = 227 * 1024;  // of a block
inline constexpr int kBlockK = 64;  // k of a stage: 128 bytes of 16-bit elements, the span of the swizzle

// A tile is m rows by `weights` rows of the weight matrices: as many output columns, or half of them when each needs
// a gate and an up.
struct TileShape {
  int m;
  int weights;
  bool gated;
  int stages;     // depth of the ring of shared memory
  int consumers;  // warpgroups that multiply
  bool turns;     // they take turns with whole tiles ("ping-pong"); else two share each tile, half the rows each

  constexpr int columns() const { return gated ? weights / 2 : weights; }
};

// Those without which some product takes 2 % longer (docs/lab-notes-gpu.md has the others).
inline constexpr TileShape kTiles[] = {
    {128, 192, true, 5, 2, true},   // many tokens: an epilogue runs beside the other warpgroup's products
    {128, 128, true, 5, 3, true},   // few tokens
    {64, 192, true, 6, 3, true},    // fewer still
    {128, 256, true, 4, 2, false},  // few tokens, wide
    {128, 224, true, 4, 2, false},  // wide too, where it leaves fewer SMs idle
    {128, 96, true, 6, 2, false},   // a tile a CTA, with half the epilogue of 64 x 192
    {128, 192, false, 4, 2, true},
    {128, 128, false, 5, 3, true},  // few k blocks: two epilogues run beside the products of a third warpgroup
    {128, 128, false, 6, 2, true},
    {256, 128, false, 4, 2, false},  // least traffic from L2: many k blocks and hardly an epilogue
    {64, 96, false, 10, 2, true},    // few tokens, narrow
    {64, 128, false, 8, 2, true},
    {64, 192, false, 6, 2, true},
    {64, 96, true, 10, 2, true},   // few tokens and hidden units
    {128, 64, true, 8, 2, false},  // some more tokens
};
inline constexpr int kTileCount = static_cast<int>(std::size(kTiles));

std::string describe(const TileShape& tile);  // for a recording

// One product as the cost model sees it.
struct Product {
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
  bool gated;
  bool activated;
  DType dtype;
  bool second;  // of the MLP: reads the hidden
};
struct Choice {
  int tile = -1;   // of kTiles
  int split = -1;  // of kSplits (split.h), second products alone; one of the two
  // Started while the product ahead drains, its CTAs on whichever SMs fall free. In the launch's own order neighbours
  // read the same, which L2 serves faster: second products bound by that wait.
  bool overlaps = true;
  double seconds = 0;
};
Choice choose(const Product& p, const DeviceInfo& device);
// Of `choice` as predicted; its own seconds do not count.
double predicted_seconds(const Product& p, const Choice& choice, const DeviceInfo& device);
// Of an MLP by two products.
double predicted_seconds(const MlpSpec& spec, std::int64_t rows, const Choice& hidden, const Choice& out,
                         const DeviceInfo& device);

// One product and its epilogue. `gemm.gate` and `gemm.gate_bias` count for gated tiles alone.
struct GemmCall {
  Gemm gemm;
  FastActivation activation;
  int tile = 0;  // of kTiles
  int sms = 0;
  bool overlaps_predecessor = false;  // started before the launch ahead of it is complete
  // Of the MLP. The launch ahead of it began when all before that one was complete: only `gemm.a` depends on it. A
  // large hidden does not stay in L2: its last rows are read first, as they were written last.
  bool second = false;
  bool draws_weights = false;   // into L2 before it waits for that launch
  const void* next = nullptr;   // weights of the product behind it, drawn while its last tiles are multiplied
  std::int64_t next_bytes = 0;  // a multiple of 16
};

// Weights of up to so many bytes are drawn into L2 before they are asked for.
inline constexpr std::int64_t kMostDrawn = 10'000'000;

inline void draw_weights(GemmCall& first, const Gemm& second) {
  const Gemm& g = first.gemm;
  first.draws_weights = (g.gate.data != nullptr ? 4 : 2) * std::int64_t{g.n} * g.k <= kMostDrawn;
  const std::int64_t extent = 2 * ((second.n - 1) * second.w.row_stride + second.k);  // from the first to the last
  first.next = second.w.data;
  first.next_bytes = extent <= kMostDrawn ? extent / 16 * 16 : 0;
}

// Queue the product on the stream. One function a storage type and form, each compiled apart.
Status gemm_bf16(const GemmCall& call, cudaStream_t stream);
Status gemm_bf16_gated(const GemmCall& call, cudaStream_t stream);
Status gemm_f16(const GemmCall& call, cudaStream_t stream);
Status gemm_f16_gated(const GemmCall& call, cudaStream_t stream);

}  // namespace fusedmlp::cuda::sm90
