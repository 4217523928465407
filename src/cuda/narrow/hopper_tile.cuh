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
inline constexpr int kTileRows = 64;    // tokens of a warpgroup
inline constexpr int kBlock = 64;       // elements of a swizzled row of 128 bytes
inline constexpr int kCoreBytes = 128;  // 8 rows of 8 elements, the unit of an operand without swizzle

// In a merged step both products are under way together, which takes registers for the accumulators of both and for
// the operand of one; in a serial step one follows the other.
template <int kWidth_, bool kGated_, bool kMerged_, bool kTurns_, int kRows_ = 128>
struct Tile {
  static constexpr int kWidth = kWidth_;  // of input and output, padded
  static constexpr bool kGated = kGated_, kMerged = kMerged_;
  static constexpr bool kTurns = kTurns_;  // warpgroups hand the tensor cores to each other
  static constexpr int kRows = kRows_;     // of the first weights in a chunk: gate and up, where gated
  static constexpr int kChunk = kGated ? kRows / 2 : kRows;
  static constexpr int kInputs = kWidth > 128 ? 1 : 2;  // buffers of input tiles
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
  static constexpr int kOffsetRing = kConsumers * kInputs * kInputBytes;
  static constexpr int kSlices = kUpSlices + kDownSlices;
  static constexpr int kStages = (kSharedLimit - kOffsetRing - kWidth * 4 - 2 * kBiasBytes - kCoreBytes - 256) /
                                 (kStageBytes + 16 + kBiasBytes / kSlices);
  // A unit is the weights of a chunk's first or second product; consumers wait for units and release slices.
  static constexpr int kUnits = (kStages + 1) / 2 * 2;  // at least what the ring holds; even ones are first products'
  static constexpr int kBiases = kStages / kSlices + 1;  // as many chunks as the ring holds, or parts of
  static constexpr int kOffsetBias = kOffsetRing + kStages * kStageBytes;
  static constexpr int kOffsetOnes = kOffsetBias + kBiases * kBiasBytes;  // 8 rows of 1 0 0 0 0 0 0 0
  static constexpr int kOffsetZeros = kOffsetOnes + kCoreBytes;           // as large as a chunk's biases
  static constexpr int kOffsetDownBias = kOffsetZeros + kBiasBytes;
  static constexpr int kOffsetBarriers = kOffsetDownBias + kWidth * 4;
  static constexpr int kShared = kOffsetBarriers + 8 * (kUnits + kStages + 2 * kConsumers * kInputs + 1);
  static_assert(kChunk % kBlock == 0 && kShared <= kSharedLimit);
  static_assert(kStages >= (kMerged ? kSlices : std::max(kUpSlices, kDownSlices)) + 1);
};

struct HopperParams {
  CUtensorMap x, up, gate, down;  // `up` and `gate`: boxes of a chunk's rows
  Bias bias_up, bias_gate, bias_down;
  void* y;
  std::int64_t ldy, tokens;
  FastActivation f;
  int hidden, out;
  int chunks;
  int tiles;      // of kTileRows tokens
  bool resident;  // all weights fit the ring
};

}  // namespace fusedmlp::cuda::narrow
