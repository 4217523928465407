// Times MLPs that a laboratory program queues itself, and holds their results against cuda.portable's.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/cost_model.h"
#include "cuda/common/operands.h"
#include "cuda/common/two_gemms.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp::lab {

inline void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}
inline void require(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  std::exit(1);
}

template <class T>
T take(Result<T> result) {
  require(result.status());
  return std::move(result).value();
}

// Whether the seconds that the first argument says (60 without one) are over.
inline std::function<bool()> deadline(int argc, char** argv) {
  const auto begin = std::chrono::steady_clock::now();
  const double limit = argc > 1 ? std::atof(argv[1]) : 60;
  return [=] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > limit; };
}

class MlpBench {
 public:
  // Queues the two products.
  using Queue = std::function<Status(const cuda::TwoGemms&, cudaStream_t)>;

  MlpBench(const MlpSpec& spec, std::int64_t most_tokens) : spec_(spec) {
    constexpr double kColdBytes = 200e6;  // of weights between two uses of the same copy
    const double copies = std::ceil(kColdBytes / core::weight_bytes(spec)) + 1;
    while (static_cast<double>(weights_.size()) < copies) {
      cuda::DeviceWeights own = take(cuda::DeviceWeights::allocate(spec));
      require(weights_.empty() ? own.fill() : own.copy(weights_.front()));
      weights_.push_back(std::move(own));
    }
    const auto rows = [&](std::int64_t width) {
      return take(cuda::DeviceMemory::allocate(static_cast<std::size_t>(most_tokens * width) * size_of(spec.dtype)));
    };
    x_ = rows(spec.d_in);
    hidden_ = rows(spec.d_hidden);
    y_ = rows(spec.d_out);
    require(cuda::fill_normal(spec.dtype, x_.data(), most_tokens * spec.d_in, 1));
    require(cudaEventCreate(&begin_));
    require(cudaEventCreate(&end_));
    ::setenv("FUSEDMLP_KERNEL", "cuda.portable", 1);
    portable_.emplace(take(Plan::create(spec, weights_.front().views(), Device::cuda())));
  }

  // Median of CUDA graphs of at least 40 MLPs, an MLP's share. All copies of the weights are read equally often, or
  // some would still be in L2 when the next graph begins. Many tokens need a pause before each: their power would
  // bring down the next one's clocks.
  double microseconds(const Queue& queue, std::int64_t tokens,
                      std::chrono::milliseconds pause = std::chrono::milliseconds{0}) const {
    const int copies = static_cast<int>(weights_.size()), count = (40 + copies - 1) / copies * copies;
    const cudaStream_t stream = stream_.get();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < count; ++i) require(queue(products(static_cast<std::size_t>(i), tokens), stream));
    require(cudaStreamEndCapture(stream, &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    std::vector<double> samples;
    for (int i = 0; i < 6; ++i) {
      std::this_thread::sleep_for(pause);
      require(cudaEventRecord(begin_, stream));
      require(cudaGraphLaunch(executable, stream));
      require(cudaEventRecord(end_, stream));
      require(cudaEventSynchronize(end_));
      float ms = 0;
      require(cudaEventElapsedTime(&ms, begin_, end_));
      if (i > 0) samples.push_back(1e3 * static_cast<double>(ms) / count);
    }
    require(cudaGraphExecDestroy(executable));
    require(cudaGraphDestroy(graph));
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
  }

  // Largest difference over the largest value; bf16.
  double difference(const Queue& queue, std::int64_t tokens) const {
    RunArgs args;
    args.x = x_.data();
    args.ldx = spec_.d_in;
    args.y = y_.data();
    args.tokens = tokens;
    args.stream = stream_.get();
    const auto result_of = [&](const std::function<Status()>& run) {
      require(cudaMemsetAsync(y_.data(), 0xff, static_cast<std::size_t>(tokens * spec_.d_out) * 2, stream_.get()));
      require(run());
      require(cudaStreamSynchronize(stream_.get()));
      std::vector<std::uint16_t> bits(static_cast<std::size_t>(tokens * spec_.d_out));
      require(cudaMemcpy(bits.data(), y_.data(), bits.size() * 2, cudaMemcpyDeviceToHost));
      std::vector<float> values(bits.size());
      for (std::size_t i = 0; i < bits.size(); ++i) {
        const std::uint32_t word = static_cast<std::uint32_t>(bits[i]) << 16;
        std::memcpy(&values[i], &word, sizeof word);
      }
      return values;
    };
    const std::vector<float> got = result_of([&] { return queue(products(0, tokens), stream_.get()); });
    const std::vector<float> want = result_of([&] { return portable_->run(args); });
    float most = 0, off = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      most = std::max(most, std::abs(want[i]));
      const float d = std::abs(got[i] - want[i]);
      if (!(d <= off)) off = d;  // NaN stays
    }
    return static_cast<double>(off / most);
  }

 private:
  cuda::TwoGemms products(std::size_t copy, std::int64_t tokens) const {
    const MlpWeights& weights = weights_[copy % weights_.size()].views();
    return cuda::two_gemms({spec_, weights, nullptr}, x_.data(), spec_.d_in, hidden_.data(), spec_.d_hidden,
                           y_.data(), spec_.d_out, tokens);
  }

  MlpSpec spec_;
  std::vector<cuda::DeviceWeights> weights_;
  cuda::DeviceMemory x_, hidden_, y_;
  cuda::OwnStream stream_ = take(cuda::OwnStream::create());
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::optional<Plan> portable_;
};

// The laboratory's sweep: first products beside `down`, second products beside the best first one, and the better
// first products again beside the best second one. look(up, down) -> microseconds.
template <class Product, class Look>
void sweep_pairs(const std::vector<Product>& ups, const std::vector<Product>& downs, const Product& down,
                 const Look& look) {
  std::vector<double> first, second;
  for (const Product& up : ups) first.push_back(look(up, down));
  const auto best = std::min_element(first.begin(), first.end());
  const Product& up = ups[static_cast<std::size_t>(best - first.begin())];
  for (const Product& other : downs) second.push_back(look(up, other));
  const auto best_down = std::min_element(second.begin(), second.end());
  const Product& other = downs[static_cast<std::size_t>(best_down - second.begin())];
  for (std::size_t i = 0; i < ups.size(); ++i) {
    if (first[i] < 1.2 * *best) look(ups[i], other);
  }
}

}  // namespace fusedmlp::lab
