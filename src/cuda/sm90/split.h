// The second product where it has too few tiles for all SMs: k in slices over a cluster. What is asked of one launch.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include "cuda/sm90/tiles.h"

namespace fusedmlp::cuda::sm90 {

inline constexpr int kSplitRows = 128;  // of a tile

struct Split {
  int columns;  // of a tile
  int slices;   // of k; each of their CTAs finishes as many columns, a multiple of 8
};
inline constexpr Split kSplits[] = {{64, 2}, {64, 4}, {128, 2}};
inline constexpr int kSplitCount = static_cast<int>(std::size(kSplits));
inline constexpr int kLeastSplitSms = 64;         // in a small part of a GPU clusters may find no room
inline constexpr std::int64_t kLeastSlice = 256;  // elements of k, that splitting is worth trying

// Stages beside the sums of a tile.
constexpr int split_stages(const Split& split) {
  return (kSharedLimit - 256 - kSplitRows * split.columns * 4) / ((kSplitRows + split.columns) * kBlockK * 2);
}

std::string describe(const Split& split);  // for a recording

// Queue the product on the stream, not gated and without an activation; of kSplits; `call.tile` does not count.
Status split_bf16(const GemmCall& call, int split, cudaStream_t stream);
Status split_f16(const GemmCall& call, int split, cudaStream_t stream);

}  // namespace fusedmlp::cuda::sm90
