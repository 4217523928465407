// An MLP that lives on the GPU, for tests that run it many times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu/device_memory.h"
#include "gpu/image.h"
#include "numerics/problem.h"

namespace fusedmlp::test {

inline bool has_gpu() { return describe(Device::cuda()).ok(); }

class Resident {
 public:
  Resident(const MlpSpec& spec, const Values& values, std::int64_t tokens, const Layout& layout = {}) : spec_(spec) {
    Memory memory;
    const Placed placed = place(spec, values, tokens, layout, memory);
    Image image;
    weights_ = placed.weights;
    image.place(weights_, spec.dtype);
    const std::size_t x_at = image.place(
        placed.x, static_cast<std::size_t>((tokens - 1) * placed.ldx + spec.d_in) * size_of(spec.dtype), placed.x);
    memory_ = DeviceBuffer(image.bytes().size());
    memory_.upload(image.bytes());
    auto* base = static_cast<std::byte*>(memory_.data());
    image.bind(base);
    x_ = base + x_at;
    ldx_ = placed.ldx;
    y_ = DeviceBuffer(y_bytes(tokens));
  }

  const MlpSpec& spec() const { return spec_; }
  const MlpWeights& weights() const { return weights_; }
  Plan plan() const {
    Result<Plan> plan = Plan::create(spec_, weights_, Device::cuda());
    EXPECT_TRUE(plan.ok()) << plan.status().to_string();
    return std::move(*plan);
  }
  // x and y of this problem from row `first` on.
  RunArgs args(std::int64_t tokens, const Stream& stream, std::int64_t first = 0) const {
    RunArgs args;
    args.x = static_cast<std::byte*>(x_) + first * ldx_ * static_cast<std::int64_t>(size_of(spec_.dtype));
    args.ldx = ldx_;
    args.y = static_cast<std::byte*>(y_.data()) + y_bytes(first);
    args.tokens = tokens;
    args.stream = stream.handle();
    return args;
  }
  std::size_t y_bytes(std::int64_t tokens) const {
    return static_cast<std::size_t>(tokens * spec_.d_out) * size_of(spec_.dtype);
  }
  std::vector<std::byte> y(std::int64_t tokens) const { return y_.download(y_bytes(tokens)); }
  void poison_y() const {
    expect_ok(cudaMemset(y_.data(), 0xff, y_.size()));
    expect_ok(cudaDeviceSynchronize());
  }

 private:
  MlpSpec spec_;
  MlpWeights weights_;
  DeviceBuffer memory_;
  DeviceBuffer y_;
  void* x_ = nullptr;
  std::int64_t ldx_ = 0;
};

}  // namespace fusedmlp::test
