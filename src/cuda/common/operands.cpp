#include "cuda/common/operands.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "core/numeric.h"
#include "cuda/common/check.h"

namespace fusedmlp::cuda {
namespace {

constexpr std::size_t kBoundary = 256;
constexpr std::int64_t kPattern = 1000003;  // a prime: no row or column of weights repeats it in step

std::size_t bytes_of(const MlpSpec& spec, std::int64_t elements) {
  return static_cast<std::size_t>(elements) * size_of(spec.dtype);
}

// body(device's view, host's view, elements, inputs of a row or 0 for biases) for every tensor there is.
template <class Body>
Status for_each_tensor(MlpWeights& mine, const MlpWeights& other, const Body& body) {
  for (MatrixView MlpWeights::*m : {&MlpWeights::gate, &MlpWeights::up, &MlpWeights::down}) {
    const MatrixView& view = mine.*m;
    if (view.data == nullptr) continue;
    if (Status status = body(view.data, (other.*m).data, view.rows * view.cols, view.cols); !status) return status;
  }
  for (VectorView MlpWeights::*b : {&MlpWeights::bias_gate, &MlpWeights::bias_up, &MlpWeights::bias_down}) {
    const VectorView& view = mine.*b;
    if (view.data == nullptr) continue;
    if (Status status = body(view.data, (other.*b).data, view.size, std::int64_t{0}); !status) return status;
  }
  return {};
}

}  // namespace

Result<DeviceMemory> DeviceMemory::allocate(std::size_t bytes) {
  DeviceMemory memory;
  if (bytes == 0) return memory;
  void* data = nullptr;
  if (Status status = check(cudaMalloc(&data, bytes), "allocate memory for operands"); !status) return status;
  memory.data_.reset(data);
  memory.size_ = bytes;
  return memory;
}

Result<OwnStream> OwnStream::create() {
  cudaStream_t stream = nullptr;
  if (Status status = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream"); !status) {
    return status;
  }
  OwnStream own;
  own.stream_.reset(stream);
  return own;
}

Status OwnStream::wait() const { return check(cudaStreamSynchronize(stream_.get()), "run a kernel"); }

Result<DeviceWeights> DeviceWeights::allocate(const MlpSpec& spec) {
  DeviceWeights out;
  out.spec_ = spec;
  std::size_t used = 0;
  const auto place = [&](std::int64_t elements) {
    const std::size_t at = used;
    used += (bytes_of(spec, elements) + kBoundary - 1) / kBoundary * kBoundary;
    return at;
  };
  const std::int64_t hidden = spec.d_hidden;
  const std::size_t up = place(hidden * spec.d_in), gate = place(spec.gated ? hidden * spec.d_in : 0),
                    down = place(spec.d_out * hidden), bias_up = place(spec.bias_up ? hidden : 0),
                    bias_gate = place(spec.bias_gate ? hidden : 0),
                    bias_down = place(spec.bias_down ? spec.d_out : 0);
  Result<DeviceMemory> memory = DeviceMemory::allocate(used);
  if (!memory) return memory.status();
  out.memory_ = std::move(*memory);
  std::byte* base = out.memory_.data();
  out.views_.up = MatrixView::out_in(base + up, hidden, spec.d_in);
  if (spec.gated) out.views_.gate = MatrixView::out_in(base + gate, hidden, spec.d_in);
  out.views_.down = MatrixView::out_in(base + down, spec.d_out, hidden);
  if (spec.bias_up) out.views_.bias_up = {base + bias_up, hidden, 1};
  if (spec.bias_gate) out.views_.bias_gate = {base + bias_gate, hidden, 1};
  if (spec.bias_down) out.views_.bias_down = {base + bias_down, spec.d_out, 1};
  return out;
}

Status DeviceWeights::upload(const MlpWeights& host) {
  return for_each_tensor(views_, host, [&](const void* to, const void* from, std::int64_t elements, std::int64_t) {
    return check(cudaMemcpy(const_cast<void*>(to), from, bytes_of(spec_, elements), cudaMemcpyHostToDevice),
                 "copy weights to the device");
  });
}

Status DeviceWeights::fill() {
  return for_each_tensor(views_, {}, [&](const void* to, const void*, std::int64_t elements, std::int64_t inputs) {
    const float scale = inputs == 0 ? 1.0f : 1 / std::sqrt(static_cast<float>(inputs));
    return fill_normal(spec_.dtype, const_cast<void*>(to), elements, scale);
  });
}

Status DeviceWeights::copy(const DeviceWeights& from) {
  return check(cudaMemcpy(memory_.data(), from.memory_.data(), memory_.size(), cudaMemcpyDeviceToDevice),
               "copy weights");
}

Status fill_normal(DType dtype, void* data, std::int64_t elements, float scale) {
  static const std::vector<float> pattern = [] {
    std::vector<float> out(kPattern);
    std::mt19937 engine(7);
    std::normal_distribution<float> normal;
    for (float& value : out) value = normal(engine);
    return out;
  }();
  const std::int64_t first = std::min(elements, kPattern);
  std::vector<std::byte> host(static_cast<std::size_t>(first) * size_of(dtype));
  for (std::int64_t i = 0; i < first; ++i) {
    core::store(dtype, host.data(), i, scale * pattern[static_cast<std::size_t>(i)]);
  }
  if (Status status = check(cudaMemcpy(data, host.data(), host.size(), cudaMemcpyHostToDevice), "copy operands");
      !status) {
    return status;
  }
  // What is there doubles until it is enough: the pattern goes on in step.
  auto* bytes = static_cast<std::byte*>(data);
  const std::size_t all = static_cast<std::size_t>(elements) * size_of(dtype);
  for (std::size_t done = host.size(); done < all;) {
    const std::size_t more = std::min(done, all - done);
    if (Status status = check(cudaMemcpy(bytes + done, bytes, more, cudaMemcpyDeviceToDevice), "copy operands");
        !status) {
      return status;
    }
    done += more;
  }
  return check(cudaDeviceSynchronize(), "copy operands");
}

}  // namespace fusedmlp::cuda
