// Few tokens in two overlapped launches, one a product: how a product is divided, and what is asked of a launch.
//
// A warp asks for the weights of a whole step before it uses the first, into registers, and for the next step's as it
// uses them up: that, and several blocks an SM, keeps memory busy. `jobs` groups of weight rows go to a warp, which
// reads `chunks` pieces of k of each in a step; `splits` warps of a block share the rows and divide k. One token is
// multiplied on the fp32 lanes (a group is one row, a piece 256 elements), more on the tensor cores (8 rows, 32
// elements), with inputs straight from L2 or staged in shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>

#include "cuda/common/activations.h"
#include "cuda/common/fitted_plans.h"
#include "cuda/common/two_gemms.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cuda::decode {

inline constexpr char kName[] = "cuda.decode";
inline constexpr int kMostTokens = 32;
inline constexpr int kVector = 8;  // elements of a 16-byte load
inline constexpr int kMostSplits = 16;

// What a kernel is compiled for. `registers` of a thread are the most it may use: the fewer, the more of the next
// launch is there already, with its weights on their way, while this one ends.
struct Form {
  bool tensor;  // the tensor cores, or the fp32 lanes
  bool gated;
  int chunks;
  int jobs;
  int registers;
  bool staged = false;  // inputs through shared memory

  constexpr int rows() const { return tensor ? 8 : 1; }      // of a job
  constexpr int piece() const { return tensor ? 32 : 256; }  // elements of a chunk
  constexpr int matrices() const { return gated ? 2 : 1; }
};
inline constexpr Form kForms[] = {
    {false, true, 3, 2, 80},        {false, true, 2, 2, 64},       {false, false, 3, 2, 72},
    {false, false, 2, 4, 64},       {false, false, 4, 4, 96},      {true, false, 4, 4, 128},
    {true, false, 12, 2, 176},      {true, true, 4, 2, 120, true}, {true, true, 4, 1, 80, true},
    {true, false, 4, 4, 120, true}, {true, false, 4, 2, 80, true}, {true, false, 6, 2, 96, true},
};
inline constexpr int kMostRegisters = 248;
inline constexpr int kUnitK = 64;       // of staged inputs
inline constexpr int kLineFloats = 32;  // of 128 bytes
constexpr int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

// The second 16 tokens' sums and inputs want registers too, and so do steps.
constexpr int registers_of(int index, int token_tiles, bool whole) {
  const Form& form = kForms[index];
  const int tile = form.staged ? 24 : 40, steps = form.staged ? 24 : 16;
  const int wanted = form.registers + (token_tiles - 1) * tile + (whole ? 0 : steps);
  return wanted < kMostRegisters ? wanted : kMostRegisters;
}
// Shared floats of a warp that first hold its inputs and then its sums.
constexpr int staged_floats(int form, int token_tiles) {
  const Form& f = kForms[form];
  const int inputs = f.chunks / 2 * token_tiles * 16 * kUnitK / 2;
  const int sums = round_up(f.matrices() * f.jobs * 8 * (token_tiles * 16 + 1), kLineFloats);
  return inputs > sums ? inputs : sums;
}
// Dynamic shared memory of a block.
inline constexpr std::size_t kMostShared = 48u << 10;        // needs no asking
inline constexpr std::size_t kMostStagedShared = 99u << 10;  // what every GPU from compute capability 8.0 on has
inline constexpr int kMostThreads = 512;
inline constexpr int kMostBlockRows = 128;

// Times i and shifted right by kDivisorBits it is i / rows, for i < kMostTokens * rows and rows <= kMostBlockRows.
inline constexpr int kDivisorBits = 19;
inline std::uint32_t row_divisor(int rows) {
  const auto divisor = static_cast<std::uint32_t>(rows);
  return ((1u << kDivisorBits) + divisor - 1) / divisor;
}
inline constexpr int kSmRegisters = 65536;  // compute capabilities 8.0 to 12.0
inline constexpr int kFormCount = static_cast<int>(std::size(kForms));

struct ProductPlan {
  int form = 0;    // of kForms
  int splits = 1;  // warps along k
  int groups = 1;  // warps along the rows
  int steps = 1;
  bool whole = false;  // k is exactly one step
  int blocks = 0;
  std::size_t shared_bytes = 0;

  int rows() const { return groups * kForms[form].jobs * kForms[form].rows(); }  // of a block
  int threads() const { return splits * groups * 32; }
};

// What of the first product's weights goes to L2 while the kernels ahead still run: the first bytes of the rows of
// the first blocks.
struct Drawn {
  int blocks = 0;
  int row_bytes = 0;
};

struct Plan {
  ProductPlan up, down;
  Drawn drawn;
  double seconds = 0;  // predicted, of both
};

// A product with this form, splits and groups; empty where it does not fit.
std::optional<ProductPlan> make_product(const ProductShape& shape, std::int64_t tokens, int form, int splits,
                                        int groups);
// Predicted time of an MLP by these products, whatever `plan.seconds` says.
double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const Plan& plan, const DeviceInfo& device);
// What is worth drawing for a first product.
Drawn drawn_early(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const DeviceInfo& device);
// The plan that is predicted to be fastest.
Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

std::string describe(const ProductPlan& plan);  // for a recording

struct Call {
  TwoGemms products;
  ActivationArgs activation;
  Plan plan;
  bool overlaps_predecessor = false;  // programmatic dependent launch
};

// Queue the MLP on the stream.
Status mlp_bf16(const Call& call, cudaStream_t stream);
Status mlp_f16(const Call& call, cudaStream_t stream);

}  // namespace fusedmlp::cuda::decode
