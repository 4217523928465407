// Device memory, streams and graphs for tests; a failing call fails the test.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "fusedmlp/status.h"

namespace fusedmlp::test {

inline void expect_ok(cudaError_t error) { EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

inline void expect_ok(const Status& status) { EXPECT_TRUE(status.ok()) << status.to_string(); }

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::size_t bytes) : bytes_(bytes) { expect_ok(cudaMalloc(&data_, bytes)); }
  ~DeviceBuffer() { static_cast<void>(cudaFree(data_)); }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  void* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  // Both wait for the copy: cudaMemcpy returns before the last bytes of pageable memory are there.
  void upload(const std::vector<std::byte>& bytes) {
    expect_ok(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    expect_ok(cudaDeviceSynchronize());
  }
  std::vector<std::byte> download(std::size_t bytes) const {
    std::vector<std::byte> out(bytes);
    expect_ok(cudaMemcpy(out.data(), data_, bytes, cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Does not wait for the legacy stream, nor that for it.
class Stream {
 public:
  Stream() { expect_ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t handle() const { return stream_; }
  // Empty, or what went wrong on the device.
  std::string wait() const {
    const cudaError_t error = cudaStreamSynchronize(stream_);
    return error == cudaSuccess ? std::string() : cudaGetErrorString(error);
  }

 private:
  cudaStream_t stream_ = nullptr;
};

// What body() queues on the stream, to be replayed.
class Graph {
 public:
  template <class Body>
  Graph(const Stream& stream, const Body& body) {
    expect_ok(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeGlobal));
    body();
    expect_ok(cudaStreamEndCapture(stream.handle(), &graph_));
    expect_ok(cudaGraphInstantiate(&executable_, graph_, 0));
  }
  ~Graph() {
    static_cast<void>(cudaGraphExecDestroy(executable_));
    static_cast<void>(cudaGraphDestroy(graph_));
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay(const Stream& stream) const { expect_ok(cudaGraphLaunch(executable_, stream.handle())); }
  std::size_t nodes() const {
    std::size_t count = 0;
    expect_ok(cudaGraphGetNodes(graph_, nullptr, &count));
    return count;
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace fusedmlp::test
