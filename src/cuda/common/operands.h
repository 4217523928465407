// Device memory, and operands made here for checking and timing entries.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "fusedmlp/spec.h"
#include "fusedmlp/status.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::cuda {

struct DeviceFree {
  void operator()(void* data) const { static_cast<void>(cudaFree(data)); }
};

// On the current device; nothing for 0 bytes.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  static Result<DeviceMemory> allocate(std::size_t bytes);
  std::byte* data() const { return static_cast<std::byte*>(data_.get()); }
  std::size_t size() const { return size_; }

 private:
  std::unique_ptr<void, DeviceFree> data_;
  std::size_t size_ = 0;
};

// Owns the stream that work is queued on here.
class OwnStream {
 public:
  static Result<OwnStream> create();
  cudaStream_t get() const { return stream_.get(); }
  Status wait() const;

 private:
  struct Destroy {
    void operator()(cudaStream_t stream) const { static_cast<void>(cudaStreamDestroy(stream)); }
  };
  std::unique_ptr<CUstream_st, Destroy> stream_;
};

// The weights of a spec, dense and [out, in], every tensor on a boundary of 256 bytes.
class DeviceWeights {
 public:
  static Result<DeviceWeights> allocate(const MlpSpec& spec);
  // From dense [out, in] tensors of the host, gate and up apart.
  Status upload(const MlpWeights& host);
  // N(0, 1 / inputs) for matrices and N(0, 1) for biases: a pattern of a million numbers again and again, since as
  // many of them as large weights have would take the host seconds.
  Status fill();
  Status copy(const DeviceWeights& from);
  const MlpWeights& views() const { return views_; }

 private:
  MlpSpec spec_;
  DeviceMemory memory_;
  MlpWeights views_;
};

// N(0, scale^2) in storage `dtype`, of the same pattern.
Status fill_normal(DType dtype, void* data, std::int64_t elements, float scale);

}  // namespace fusedmlp::cuda
