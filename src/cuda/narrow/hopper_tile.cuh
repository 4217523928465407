// The tiles of the Hopper narrow kernel and its arguments.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>

#include "cuda/narrow/narrow.h"

namespace fusedmlp::cuda::narrow {

inline constexpr int kSharedLimit = 227 * 1024;
inline constexpr int kConsumers = 2;
inline constexpr int kThreads = 128 * (kConsumers + 1);
inline constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
inline constexpr int kTileRows = 64;          // tokens of a warpgroup
inline constexpr int kBlock = 64;             // elements of a swizzled row of 128 bytes
inline constexpr int kCoreBytes = 128;        // 8 rows of 8 elements, the unit of an operand without swizzle
inline constexpr int kPieceBytes = 16 * 128;  // of outputs: a warp's rows, kBlock columns

// kAhead: whether a step's first product is that of the chunk after the one that it activates. It has its own
// accumulators then, and the activation waits for no product; else it waits for the first one.
template <int kWidth_, bool kGated_, int kRows_, bool kAhead_>
struct Tile {
  static constexpr int kWidth = kWidth_;  // of input and output, padded
  static constexpr bool kGated = kGated_, kAhead = kAhead_;
  static constexpr int kLag = kAhead ? 2 : 1;  // chunks from the first product of a pair to the second one
  static constexpr int kRows = kRows_;         // of the first weights in a chunk: gate and up, where gated
  static constexpr int kChunk = kGated ? kRows / 2 : kRows;
  static constexpr bool kHeld = kWidth <= 128;  // consumers hold their inputs in registers
  // A slice of the first weights is kRows x kUpDepth, of the second ones kOutRows x kDownDepth: about the same bytes.
  static constexpr int kPieces = kWidth > 128 ? 2 : 1, kOutRows = kWidth / kPieces;
  static constexpr int kUpDepth = kRows == 64 && kWidth % 128 == 0 ? 128 : 64;
  static constexpr int kDownDepth = kOutRows == 64 && kChunk % 128 == 0 ? 128 : 64;
  static constexpr int kUpSlices = kWidth / kUpDepth, kDownSlices = kPieces * kChunk / kDownDepth;
  static constexpr int kUpBytes = kRows * kUpDepth * 2, kDownBytes = kOutRows * kDownDepth * 2;
  static constexpr int kStageBytes = kUpBytes > kDownBytes ? kUpBytes : kDownBytes;
  static constexpr int kInputBytes = kTileRows * kWidth * 2;
  // A chunk's biases are 8 columns of a first weight matrix, the last 7 zeros, beside an input of 1 (and zeros).
  static constexpr int kBiasBytes = kRows * 16;
  static constexpr int kStaged = kHeld ? 2 : 1;  // pieces of outputs on a warp's way out
  static constexpr int kOffsetStaging = kConsumers * kInputBytes;
  static constexpr int kOffsetRing = kOffsetStaging + 4 * kConsumers * kStaged * kPieceBytes;
  static constexpr int kSlices = kUpSlices + kDownSlices;
  static constexpr int kMostStages = (kSharedLimit - kOffsetRing - kWidth * 4 - 2 * kBiasBytes - kCoreBytes - 256) /
                                     (kStageBytes + 16 + kBiasBytes / kSlices);
  // A pair is the weights of a chunk's first product and of one's second product; where two or more fit the ring, it
  // holds whole ones, so that a pair's slices lie together.
  static constexpr bool kWhole = kMostStages >= 2 * kSlices;
  static constexpr int kStages = kWhole ? kMostStages / kSlices * kSlices : kMostStages;
  // Pairs with barriers and biases of their own: as many as the ring holds, or parts of.
  static constexpr int kPlaces = kStages / kSlices + (kWhole ? 0 : 1);
  static constexpr int kOffsetBias = kOffsetRing + kStages * kStageBytes;
  static constexpr int kOffsetOnes = kOffsetBias + kPlaces * kBiasBytes;  // 8 rows of 1 0 0 0 0 0 0 0
  static constexpr int kOffsetZeros = kOffsetOnes + kCoreBytes;           // as large as a chunk's biases
  static constexpr int kOffsetDownBias = kOffsetZeros + kBiasBytes;
  static constexpr int kOffsetBarriers = kOffsetDownBias + kWidth * 4;
  static constexpr int kShared = kOffsetBarriers + 8 * (2 * kPlaces + kStages + 2 * kConsumers + 1);
  static_assert(kChunk % kBlock == 0 && kShared <= kSharedLimit);
  static_assert(kStages >= kUpSlices + kDownSlices && (kWhole || !kAhead));
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
