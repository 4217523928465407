// Carves typed, 64-byte aligned pieces out of a workspace; run with a null base it only measures.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedmlp::cpu {

class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<std::byte*>(base)) {}

  float* floats(std::int64_t count) {
    return reinterpret_cast<float*>(bytes(static_cast<std::size_t>(count) * sizeof(float)));
  }
  std::byte* bytes(std::size_t count) {
    std::byte* piece = base_ ? base_ + used_ : nullptr;
    used_ += (count + 63) & ~std::size_t{63};
    return piece;
  }
  std::size_t used() const { return used_; }
  bool measures() const { return base_ == nullptr; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace fusedmlp::cpu
