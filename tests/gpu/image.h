// Tensors of the host laid out for the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "core/weight_rows.h"

namespace fusedmlp::test {

// An image of device memory in which tensors are placed before it is uploaded as a whole.
class Image {
 public:
  static constexpr std::size_t kBand = 1024;  // poisoned bytes between any two places
  static constexpr std::size_t kUnit = 256;   // addresses keep their remainder by it

  // The offset of a copy of `bytes` bytes at `data`, or of as many poisoned ones when `data` is null; the place has
  // the address `like` modulo kUnit.
  std::size_t place(const void* data, std::size_t bytes, const void* like) {
    const std::size_t remainder = reinterpret_cast<std::uintptr_t>(like) % kUnit;
    const std::size_t at = (bytes_.size() + kBand + kUnit - 1) / kUnit * kUnit + remainder;
    bytes_.resize(at + bytes + kBand, std::byte{0xff});
    if (data != nullptr) std::memcpy(bytes_.data() + at, data, bytes);
    return at;
  }
  template <class View>
  void place(View& view, DType dtype) {
    if (view.data == nullptr) return;
    const core::ByteRange range = core::bytes_of(view, dtype);
    offsets_.push_back({&view.data, place(view.data, range.end - range.begin, view.data)});
  }
  void place(MlpWeights& weights, DType dtype) {
    for (MatrixView* m : {&weights.gate, &weights.up, &weights.gate_up, &weights.down}) place(*m, dtype);
    for (VectorView* b : {&weights.bias_gate, &weights.bias_up, &weights.bias_gate_up, &weights.bias_down}) {
      place(*b, dtype);
    }
  }
  // Points every placed view to its copy.
  void bind(std::byte* base) {
    for (const auto& [pointer, offset] : offsets_) *pointer = base + offset;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::vector<std::pair<const void**, std::size_t>> offsets_;
};

}  // namespace fusedmlp::test
