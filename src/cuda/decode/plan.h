// How one launch of cuda.decode divides an MLP of few tokens, and what is asked of a launch.
//
// The hidden's columns are divided among the blocks; after a barrier over the grid the outputs' columns are, each
// with all of the hidden or, split, with a slice of it. In a block, warps divide the weight rows (in tiles of 8) and
// k (in units of 64: a 128-byte line of a row).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/kernel.h"
#include "cuda/common/activations.h"
#include "cuda/common/two_gemms.h"

namespace fusedmlp::cuda::decode {

inline constexpr char kName[] = "cuda.decode";
inline constexpr int kMostTokens = 64;
inline constexpr int kUnit = 64;         // k of a unit
inline constexpr int kChunk = 8;         // elements of 16 bytes
inline constexpr int kLineBytes = 128;   // of a unit of a row
inline constexpr int kUnitBytes = 1024;  // of a tile's unit in a warp's ring: 32 bytes a lane
inline constexpr int kTileRows = 8;      // weight rows of a tile
inline constexpr int kStepUnits = 4;     // pieces of weights, a unit of a tile each, that a warp takes at a time
inline constexpr int kStepBytes = kStepUnits * kUnitBytes;
inline constexpr int kMostDepth = 4;                   // steps in a warp's ring; at least 2
inline constexpr int kReservedBytes = 1024;            // of shared memory, for the kernel's arguments
inline constexpr int kMostSplits = 16;                 // of k in the second product
inline constexpr int kRowClasses[] = {8, 16, 32, 64};  // kernels by the most tokens

FUSEDMLP_HD constexpr int divide_up(int value, int unit) { return (value + unit - 1) / unit; }

// Most warps of a block by the kernel, whose sums take the more registers the more tokens it is for.
constexpr int most_warps(int token_class) { return token_class <= 16 ? 16 : token_class == 32 ? 12 : 8; }

// Bytes between rows of the activations in shared memory: rows of even and odd number lie half a 128-byte line apart,
// so that the 16-byte reads of two rows by four lanes each meet no bank conflict.
FUSEDMLP_HD constexpr int activation_pitch(int units) { return units * kUnit * 2 + 64; }

// Floats of a tile's sums of up to 16 tokens: 32 lanes with 2 (8 tokens) or 4 values.
FUSEDMLP_HD constexpr int sum_floats(int token_class) { return 32 * (token_class == 8 ? 2 : 4); }

struct PhasePlan {
  int blocks = 0;      // with rows of their own, times splits
  int splits = 1;      // of k over blocks
  int rows = 0;        // output columns of a block
  int passes = 1;      // over k, each with pass_rows of them
  int pass_rows = 0;   // a multiple of kTileRows
  int warps_n = 1;     // warps along the tiles of a pass
  int warps_k = 1;     // warps along k
  int tiles = 1;       // of a warp: gate and up count one each
  int step_units = 1;  // of k in a step of the warp: 1, 2 or 4; tiles * step_units <= kStepUnits
  int chunk_units =
      1;  // of k that the activations in shared memory span; a multiple of warps_k * step_units if there are more
  int buffers = 1;  // of such chunks
};

struct Plan {
  int token_class = 0;  // of kRowClasses
  int blocks = 0;
  int warps = 0;  // of a block
  int depth = 0;  // steps of a warp's ring of weights
  int activation_bytes = 0;
  int shared_bytes = 0;
  int prefetch_bytes = 0;  // of a block's weights, drawn into L2 before the kernels ahead are complete
  PhasePlan up, down;
  double seconds = 0;  // predicted
};

// What a plan may choose freely.
struct Knobs {
  int warps = 8;
  int blocks = 0;
  int depth = 3;
  int splits = 1;
  int up_warps_k = 1;
  int down_warps_k = 1;
  int prefetch_bytes = 0;
};

// The plan of these knobs; empty where it does not fit the device.
std::optional<Plan> make_plan(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, const Knobs& knobs);
// The plan that is predicted to be fastest; empty: none fits.
std::optional<Plan> choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

// Bytes of the workspace: the hidden, and the splits' sums. No less for more tokens.
std::int64_t hidden_stride(const MlpSpec& spec);  // elements
std::size_t hidden_bytes(const MlpSpec& spec, std::int64_t tokens);
std::size_t partial_bytes(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

struct Call {
  TwoGemms products;
  ActivationArgs activation;
  bool gated = false;
  Plan plan;
  float* partial = nullptr;
  std::uint32_t* barrier = nullptr;  // a slot of common/barrier_slot.h
  std::size_t most_shared = 0;       // the most shared memory of a block on this device
  bool cooperative = true;           // the device promises that all blocks run side by side
  bool overlaps_predecessor = false;
};

// Queue the MLP on the stream.
Status mlp_bf16(const Call& call, cudaStream_t stream);
Status mlp_f16(const Call& call, cudaStream_t stream);

}  // namespace fusedmlp::cuda::decode
