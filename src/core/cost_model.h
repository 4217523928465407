// The arithmetic of predictions: what a device can do at most, and how parts of a prediction combine.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fusedmlp::core {

// Threads that can really run at once.
int usable_threads(const DeviceInfo& device, int threads) noexcept;

// Peak arithmetic rate of `threads` cores for products of this storage dtype: of vector instructions on a CPU, and of
// whatever is fastest.
double peak_flops(const DeviceInfo& device, DType dtype, int threads) noexcept;
double fastest_flops(const DeviceInfo& device, DType dtype, int threads) noexcept;

// Bytes a second at which `threads` cores read a working set again and again: the bandwidth of the nearest
// level that holds it (the L2s of those cores, L3, memory). On a GPU, whatever `threads`, all SMs and memory:
// weights are taken to be cold.
double read_bandwidth(const DeviceInfo& device, double working_set_bytes, int threads) noexcept;

// Bytes of matrices and biases; of x and y.
double weight_bytes(const MlpSpec& spec) noexcept;
double activation_bytes(const MlpSpec& spec, std::int64_t tokens) noexcept;

// Seconds of arithmetic at peak_flops, and of reading weights and x and writing y once.
double compute_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads) noexcept;
double memory_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads) noexcept;

// A framework's own operations on a GPU: a GEMM library's products (gate and up apart) and one activation kernel
// between them, the hidden through memory.
double library_seconds(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) noexcept;

// Whether a caller who has those operations gains by the fused kernel of so many seconds: it is no slower, or so
// short that issuing several operations takes longer.
bool fusing_pays(double fused_seconds, double library_seconds) noexcept;

// Arithmetic and memory traffic overlap, fixed costs (parallel regions, launches) do not:
// max(compute, memory) + overhead, bound by the largest of the three.
Prediction combine(double compute, double memory, double overhead, Basis basis) noexcept;

}  // namespace fusedmlp::core
