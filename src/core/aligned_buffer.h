// Uninitialised memory for packed weights and workspaces.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace fusedmlp::core {

inline constexpr std::size_t kAlignment = 64;  // what kernels may assume: a cache line, an AVX-512 register

// 64-byte aligned; from 2 MiB on also aligned to, and advised to use, huge pages. Throws std::bad_alloc.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes);

  void* data() const { return data_.get(); }
  std::size_t size() const { return data_ ? size_ : 0; }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace fusedmlp::core
