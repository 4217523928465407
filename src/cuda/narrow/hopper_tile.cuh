// The tiles of the Hopper narrow kernel and its arguments.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>

#include "cuda/narrow/narrow.h"

namespace fusedmlp::cuda::narrow {

inline constexpr int kSharedLimit = 227 * 1024;
inline constexpr int kProducerRegisters = 24;
inline constexpr int kTileRows = 64;          // tokens of a warpgroup
inline constexpr int kBlock = 64;             // elements of a swizzled row of 128 bytes
inline constexpr int kPieceBytes = 16 * 128;  // of outputs: a warp's rows, kBlock columns

template <int kWidth_, bool kGated_>
struct Tile {
  static constexpr int kWidth = kWidth_;  // of input and output, padded
  static constexpr bool kGated = kGated_;
  static constexpr int kRows = kWidth == 192 && !kGated ? 64 : 128;  // of the first weights in a chunk: gate and up
  static constexpr int kChunk = kGated ? kRows / 2 : kRows;
  // Of a chunk: the second product of one stands beside the activation of the next. The faster number of 2 and 4.
  static constexpr int kParts = kGated == (kWidth <= 128) && kRows == 128 ? 4 : 2;
  static constexpr int kConsumers = kWidth + kRows <= 256 ? 3 : 2;  // warpgroups, as registers have room for
  static constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 240;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  // A slice of the first weights is kRows x kUpDepth, of the second ones kOutRows x kDownDepth: about the same bytes.
  static constexpr int kPieces = kWidth > 128 ? 2 : 1, kOutRows = kWidth / kPieces;
  static constexpr int kUpDepth = kRows == 64 && kWidth % 128 == 0 ? 128 : 64;
  static constexpr int kDownDepth = kOutRows == 64 && kChunk % 128 == 0 ? 128 : 64;
  static constexpr int kUpSlices = kWidth / kUpDepth, kDownSlices = kPieces * kChunk / kDownDepth;
  static constexpr int kUpBytes = kRows * kUpDepth * 2, kDownBytes = kOutRows * kDownDepth * 2;
  static constexpr int kStageBytes = kUpBytes > kDownBytes ? kUpBytes : kDownBytes;
  static constexpr int kInputBytes = kTileRows * kWidth * 2;
  static constexpr int kBiasBytes = kRows * 4;
  static constexpr int kStaged = kWidth == 128 ? 2 : 1;  // pieces of outputs on a warp's way out
  static constexpr int kOffsetStaging = kConsumers * kInputBytes;
  static constexpr int kOffsetRing = kOffsetStaging + 4 * kConsumers * kStaged * kPieceBytes;
  static constexpr int kSlices = kUpSlices + kDownSlices;
  static constexpr int kMostStages =
      (kSharedLimit - kOffsetRing - kWidth * 4 - kBiasBytes - 256) / (kStageBytes + 16 + kBiasBytes / kSlices);
  // A pair is the weights of a chunk's two products; where two or more fit the ring, it holds whole ones, so that a
  // pair's slices lie together.
  static constexpr bool kWhole = kMostStages >= 2 * kSlices;
  static constexpr int kStages = kWhole ? kMostStages / kSlices * kSlices : kMostStages;
  // Pairs with barriers and biases of their own: as many as the ring holds, or parts of.
  static constexpr int kPlaces = kStages / kSlices + (kWhole ? 0 : 1);
  static constexpr int kOffsetBias = kOffsetRing + kStages * kStageBytes;
  static constexpr int kOffsetDownBias = kOffsetBias + kPlaces * kBiasBytes;
  static constexpr int kOffsetBarriers = kOffsetDownBias + kWidth * 4;
  static constexpr int kShared = kOffsetBarriers + 8 * (2 * kPlaces + kStages + 2 * kConsumers + 1);
  static_assert(kChunk % kBlock == 0 && kShared <= kSharedLimit && kStages >= kSlices);
};

struct HopperParams {
  CUtensorMap x, up, gate, down, y;  // `up` and `gate`: boxes of a chunk's rows
  Bias bias_up, bias_gate, bias_down;
  void* outputs;
  std::int64_t ldy, tokens;
  FastActivation f;
  int hidden, out;
  int chunks;
  int tiles;      // of kTileRows tokens
  bool resident;  // all weights fit the ring
};

}  // namespace fusedmlp::cuda::narrow
