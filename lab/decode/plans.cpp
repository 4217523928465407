// Times plans of cuda.decode: every sensible first product beside a middling second one, every second product beside
// the best first one, and first products again beside the best second one.
//   plans SECONDS [SPEC TOKENS]...      a line a pair:
//   SPEC TOKENS up FORM SPLITS GROUPS down FORM SPLITS GROUPS prefetch 0|1 MICROSECONDS
// A CUDA graph of 40 MLPs, their weights cold in L2; medians.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/cost_model.h"
#include "cuda/common/operands.h"
#include "cuda/decode/plan.h"
#include "fusedmlp/fusedmlp.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::cuda::decode;
using Pair = cuda::decode::Plan;

constexpr double kColdBytes = 200e6;  // of weights between two uses of the same copy

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}
void require(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  std::exit(1);
}

template <class T>
T take(Result<T> result) {
  require(result.status());
  return std::move(result).value();
}

class Bench {
 public:
  explicit Bench(const MlpSpec& spec) : spec_(spec) {
    const double copies = std::ceil(kColdBytes / core::weight_bytes(spec)) + 1;
    while (static_cast<double>(weights_.size()) < copies) {
      cuda::DeviceWeights own = take(cuda::DeviceWeights::allocate(spec));
      require(weights_.empty() ? own.fill() : own.copy(weights_.front()));
      weights_.push_back(std::move(own));
    }
    const auto rows = [&](std::int64_t width) {
      return take(cuda::DeviceMemory::allocate(static_cast<std::size_t>(kMostTokens * width) * size_of(spec.dtype)));
    };
    x_ = rows(spec.d_in);
    hidden_ = rows(spec.d_hidden);
    y_ = rows(spec.d_out);
    require(cuda::fill_normal(spec.dtype, x_.data(), kMostTokens * spec.d_in, 1));
    require(cudaEventCreate(&begin_));
    require(cudaEventCreate(&end_));
  }

  // Largest difference from plans of 16 tokens at a time, over the largest value.
  double difference(const Pair& plan, std::int64_t tokens) const {
    const auto y_of = [&](bool apart) {
      for (std::int64_t m = 0; m < tokens; m += apart ? 16 : tokens) {
        const std::int64_t count = apart ? std::min<std::int64_t>(16, tokens - m) : tokens;
        Call call;
        call.products =
            cuda::two_gemms({spec_, weights_.front().views(), nullptr}, x_.data() + m * spec_.d_in * 2, spec_.d_in,
                            hidden_.data(), spec_.d_hidden, y_.data() + m * spec_.d_out * 2, spec_.d_out, count);
        call.activation = cuda::activation_args(spec_);
        call.plan = apart ? Pair{*make_product(up_shape(spec_), count, spec_.gated ? 6 : 10, 2, 1),
                                 *make_product(down_shape(spec_), count, 10, 4, 1), false, 0}
                          : plan;
        call.overlaps_predecessor = true;
        require(mlp_bf16(call, stream_.get()));
      }
      require(cudaStreamSynchronize(stream_.get()));
      std::vector<std::uint16_t> bits(static_cast<std::size_t>(tokens * spec_.d_out));
      require(cudaMemcpy(bits.data(), y_.data(), bits.size() * 2, cudaMemcpyDeviceToHost));
      std::vector<float> values(bits.size());
      for (std::size_t i = 0; i < bits.size(); ++i) {
        const std::uint32_t word = static_cast<std::uint32_t>(bits[i]) << 16;
        std::memcpy(&values[i], &word, 4);
      }
      return values;
    };
    require(cudaMemsetAsync(y_.data(), 0xff, static_cast<std::size_t>(tokens * spec_.d_out) * 2, stream_.get()));
    const std::vector<float> got = y_of(false), want = y_of(true);
    float most = 0, off = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      most = std::max(most, std::abs(want[i]));
      const float d = std::abs(got[i] - want[i]);
      off = d > off || !(d == d) ? d : off;
    }
    return static_cast<double>(off / most);
  }

  double microseconds(const Pair& plan, std::int64_t tokens) const {
    const int count = std::max(static_cast<int>(weights_.size()), 40);
    const cudaStream_t stream = stream_.get();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < count; ++i) {
      const MlpWeights& weights = weights_[static_cast<std::size_t>(i) % weights_.size()].views();
      Call call;
      call.products = cuda::two_gemms({spec_, weights, nullptr}, x_.data(), spec_.d_in, hidden_.data(),
                                      spec_.d_hidden, y_.data(), spec_.d_out, tokens);
      call.activation = cuda::activation_args(spec_);
      call.plan = plan;
      call.overlaps_predecessor = true;
      require(mlp_bf16(call, stream));
    }
    require(cudaStreamEndCapture(stream, &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    std::vector<double> samples;
    for (int i = 0; i < 8; ++i) {
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

 private:
  MlpSpec spec_;
  std::vector<cuda::DeviceWeights> weights_;
  cuda::DeviceMemory x_, hidden_, y_;
  cuda::OwnStream stream_ = take(cuda::OwnStream::create());
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Those that waste little of k and fill the GPU.
std::vector<ProductPlan> candidates(const Shape& shape, std::int64_t tokens, int least_blocks) {
  std::vector<ProductPlan> all;
  for (int form = 0; form < kFormCount; ++form) {
    for (const int splits : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12}) {
      for (const int groups : {1, 2, 4, 8}) {
        const std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups);
        if (!plan || plan->threads() < 64 || plan->threads() > 384 || plan->blocks < least_blocks) continue;
        const double read = static_cast<double>(plan->steps) * splits * kForms[form].chunks * kForms[form].piece();
        if (read < 1.15 * shape.k) all.push_back(*plan);
      }
    }
  }
  return all;
}

ProductPlan middling(const std::vector<ProductPlan>& all) {
  const auto distance = [](const ProductPlan& plan) {
    return std::abs(std::log(plan.blocks / 192.0)) + std::abs(std::log(plan.threads() / 256.0)) -
           0.05 * kForms[plan.form].jobs * kForms[plan.form].chunks;
  };
  return *std::min_element(all.begin(), all.end(),
                           [&](const ProductPlan& a, const ProductPlan& b) { return distance(a) < distance(b); });
}

void sweep(const std::string& text, const std::vector<std::int64_t>& token_counts,
           const std::function<bool()>& over) {
  const MlpSpec spec = parse_spec(text).value();
  const Bench bench(spec);
  const bool check = std::getenv("PLANS_CHECK") != nullptr;
  for (const std::int64_t tokens : token_counts) {
    const std::vector<ProductPlan> ups = candidates(up_shape(spec), tokens, 90);
    const std::vector<ProductPlan> downs = candidates(down_shape(spec), tokens, 40);
    if (ups.empty() || downs.empty()) continue;
    Pair best{middling(ups), middling(downs), false, 1e9};
    const auto look = [&](const Pair& plan) {
      if (over()) return 1e9;
      const double us = bench.microseconds(plan, tokens);
      std::printf("%s %lld up %d %d %d down %d %d %d prefetch %d %.3f\n", text.c_str(),
                  static_cast<long long>(tokens), plan.up.form, plan.up.splits, plan.up.groups, plan.down.form,
                  plan.down.splits, plan.down.groups, plan.prefetches, us);
      if (check) {
        const double difference = bench.difference(plan, tokens);
        if (!(difference < 0.02)) std::printf("WRONG %g\n", difference);
      }
      if (us < best.seconds) best = {plan.up, plan.down, plan.prefetches, us};
      return us;
    };
    const Pair start = best;
    std::vector<double> first;
    for (const ProductPlan& up : ups) first.push_back(look({up, start.down, false, 0}));
    const double least = *std::min_element(first.begin(), first.end());
    const ProductPlan up = best.up;
    for (const ProductPlan& down : downs) look({up, down, false, 0});
    const ProductPlan down = best.down;
    for (std::size_t i = 0; i < ups.size(); ++i) {
      if (first[i] > 1.2 * least) continue;
      for (const bool prefetches : {false, true}) look({ups[i], down, prefetches, 0});
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto begin = std::chrono::steady_clock::now();
  const double limit = argc > 1 ? std::atof(argv[1]) : 60;
  const auto over = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > limit;
  };
  if (argc > 3) {
    for (int i = 2; i + 1 < argc; i += 2) sweep(argv[i], {std::atoll(argv[i + 1])}, over);
    return 0;
  }
  for (const char* text : {"geglu:768x3072,bf16", "gelu:1024x4096,bf16", "swiglu:2048x768,bf16",
                           "swiglu:4096x14336,bf16", "gelu:4096x4096,bf16", "gelu:768x3072,bf16"}) {
    sweep(text, {1, 16, 4, 32}, over);
  }
}
