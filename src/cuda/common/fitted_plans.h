// What cuda.decode and cuda.cluster have in common: plans are made for the shape of each product, and their costs are
// fitted to measured times on one GPU.
#pragma once

#include "core/cost_model.h"
#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cuda {

struct ProductShape {
  bool gated;
  int n, k;

  double weight_megabytes() const { return 2e-6 * (gated ? 2 : 1) * n * k; }  // 16-bit types
};
inline ProductShape up_shape(const MlpSpec& spec) {
  return {spec.gated, static_cast<int>(spec.d_hidden), static_cast<int>(spec.d_in)};
}
inline ProductShape down_shape(const MlpSpec& spec) {
  return {false, static_cast<int>(spec.d_out), static_cast<int>(spec.d_hidden)};
}

// Seconds on this device of what takes so many microseconds on an H200: reading the weights takes what its memory
// does.
inline double seconds_from_h200(double microseconds, const MlpSpec& spec, const DeviceInfo& device) {
  constexpr double kH200Bandwidth = 4.46e12;
  const double bytes = core::weight_bytes(spec);
  return microseconds * 1e-6 + bytes / device.memory_bandwidth - bytes / kH200Bandwidth;
}

}  // namespace fusedmlp::cuda
