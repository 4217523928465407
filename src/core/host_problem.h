// Weights and inputs for the CPU, made up here and owned here: what measuring and checking run on.
#pragma once

#include <cstdint>

#include "core/aligned_buffer.h"
#include "core/kernel.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::core {

enum class Data : std::uint8_t {
  normal,   // x and biases ~ N(0, 1), weights ~ N(0, 1 / inputs): no value and no sum leaves any storage's range
  integer,  // sparse small integers: with identity, relu or relu2 every value on the way is exact in bf16
};

// The weights of a spec, each matrix [out, in]; gate and up in one matrix if `joined`.
class HostWeights {
 public:
  HostWeights(const MlpSpec& spec, Data data, std::uint64_t seed, bool joined = false);
  const MlpWeights& views() const { return views_; }
  // A copy elsewhere in memory, with the same values.
  HostWeights duplicate() const;

 private:
  HostWeights() = default;
  void place(const MlpSpec& spec, bool joined);

  MlpSpec spec_;
  bool joined_ = false;
  AlignedBuffer memory_;
  MlpWeights views_;
};

// [tokens, d_in] in the spec's dtype.
AlignedBuffer make_input(const MlpSpec& spec, std::int64_t tokens, Data data, std::uint64_t seed);

// The weights in an entry's packed layout; empty where it has none.
Result<AlignedBuffer> pack_weights(const KernelEntry& entry, const MlpSpec& spec, const MlpWeights& weights,
                                   const DeviceInfo& device, Executor& executor);

}  // namespace fusedmlp::core
