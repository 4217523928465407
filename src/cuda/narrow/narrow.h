// What is asked of one launch of a narrow kernel.
#pragma once

#include "cuda/common/two_gemms.h"
#include "cuda/narrow/activation.h"

namespace fusedmlp::cuda::narrow {

inline constexpr char kHopperName[] = "cuda.narrow_sm90";
inline constexpr char kPortableName[] = "cuda.narrow";
inline constexpr int kMostWidth = 256;

// Fewer hidden units leave most of a chunk empty, and too few terms of a sum for the fast activations: their error is
// up to 0.87 of the hidden's own rounding (activation.cpp), and only among many terms do the two rarely add up.
inline constexpr int kLeastHidden = 16;

// Kernels are made for inputs and outputs of up to this many columns.
constexpr int padded_width(std::int64_t d_in, std::int64_t d_out) {
  const std::int64_t most = d_in > d_out ? d_in : d_out;
  return most <= 64 ? 64 : most <= 128 ? 128 : most <= 192 ? 192 : 256;
}

struct NarrowCall {
  TwoGemms gemms;  // without a hidden: its address and stride count for nothing
  FastActivation activation;
  int sms = 0;
  bool overlaps_predecessor = false;
};

// Queue the MLP on the stream. One function a storage type and form, each compiled apart.
Status hopper_bf16(const NarrowCall& call, cudaStream_t stream);
Status hopper_bf16_gated(const NarrowCall& call, cudaStream_t stream);
Status hopper_f16(const NarrowCall& call, cudaStream_t stream);
Status hopper_f16_gated(const NarrowCall& call, cudaStream_t stream);
Status portable_bf16(const NarrowCall& call, cudaStream_t stream);
Status portable_bf16_gated(const NarrowCall& call, cudaStream_t stream);
Status portable_f16(const NarrowCall& call, cudaStream_t stream);
Status portable_f16_gated(const NarrowCall& call, cudaStream_t stream);

// Seconds by the cost model.
double hopper_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);
double portable_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

}  // namespace fusedmlp::cuda::narrow
