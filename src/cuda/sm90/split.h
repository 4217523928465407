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
  int slices;   // of k; each of their CTAs finishes a share of the columns, in units of 8
};
inline constexpr Split kSplits[] = {{64, 2}, {64, 4}, {128, 2}, {128, 3}};
inline constexpr int kSplitCount = static_cast<int>(std::size(kSplits));
inline constexpr int kLeastSplitSms = 64;         // in a small part of a GPU clusters may find no room
inline constexpr std::int64_t kLeastSlice = 256;  // elements of k, that splitting is worth trying

constexpr int most_units(const Split& split) { return (split.columns / 8 + split.slices - 1) / split.slices; }

// Stages beside the sums that a CTA finishes, 4 KB a unit and slice.
constexpr int split_stages(const Split& split) {
  const int sums = split.slices * most_units(split) * kSplitRows * 8 * 4;
  return (kSharedLimit - 256 - sums) / ((kSplitRows + split.columns) * kBlockK * 2);
}

std::string describe(const Split& split);  // for a recording

// Queue the product on the stream, not gated and without an activation; of kSplits; `call.tile` does not count.
Status split_bf16(const GemmCall& call, int split, cudaStream_t stream);
Status split_f16(const GemmCall& call, int split, cudaStream_t stream);

}  // namespace fusedmlp::cuda::sm90
