// Laboratory: both products in one launch against two launches, interleaved in one process, on a built library:
//   nvcc -std=c++20 -O2 -cudart static -Iinclude -Isrc -o OUTPUT lab/sm90/one_launch.cpp LIBRARY.a -lz
//
// OUTPUT check SPEC...: bits against the two launches, with some token counts, in graphs and on two streams.
// OUTPUT time ROUNDS [SPEC TOKENS]...: medians of CUDA graphs, weights cold in L2.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/cost_model.h"
#include "cuda/common/operands.h"
#include "cuda/common/two_gemms.h"
#include "cuda/sm90/tiles.h"
#include "fusedmlp/fusedmlp.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::cuda;

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}
void require(const Status& status) {
  if (status) return;
  std::printf("%s\n", status.to_string().c_str());
  std::exit(1);
}
template <class T>
T take(Result<T> result) {
  require(result.status());
  return std::move(result).value();
}

struct Mlp {
  MlpSpec spec;
  DeviceInfo device = take(describe(Device::cuda()));
  std::vector<DeviceWeights> weights;
  DeviceMemory x, hidden, y;
  OwnStream stream = take(OwnStream::create());
  std::int64_t ldh;

  Mlp(const MlpSpec& s, std::int64_t most, bool cold) : spec(s), ldh(aligned_hidden(s)) {
    const double copies = cold ? std::ceil(200e6 / core::weight_bytes(spec)) + 1 : 1;
    while (static_cast<double>(weights.size()) < copies) {
      DeviceWeights own = take(DeviceWeights::allocate(spec));
      require(weights.empty() ? own.fill() : own.copy(weights.front()));
      weights.push_back(std::move(own));
    }
    const auto rows = [&](std::int64_t width) {
      return take(DeviceMemory::allocate(static_cast<std::size_t>(most * width) * 2));
    };
    x = rows(spec.d_in);
    hidden = rows(ldh);
    y = rows(spec.d_out);
    require(fill_normal(spec.dtype, x.data(), most * spec.d_in, 1));
    require(cudaDeviceSynchronize());
  }
  sm90::Choice choice(std::int64_t tokens, bool first) const {
    const bool activated = first && spec.activation != Activation::identity;
    return sm90::choose({tokens, first ? spec.d_hidden : spec.d_out, first ? spec.d_in : spec.d_hidden,
                         first && spec.gated, activated, spec.dtype},
                        device);
  }
  void queue(bool one, std::size_t copy, std::int64_t tokens) {
    const bool half = spec.dtype == DType::f16;
    const TwoGemms p = two_gemms({spec, weights[copy % weights.size()].views(), nullptr}, x.data(), spec.d_in,
                                 hidden.data(), ldh, y.data(), spec.d_out, tokens);
    if (one) {
      const sm90::OneLaunchCall both{p.hidden, p.out, sm90::fast_activation(spec), device.cores};
      return require(half ? sm90::both_f16(both, spec.gated, stream.get())
                          : sm90::both_bf16(both, spec.gated, stream.get()));
    }
    sm90::GemmCall first, second;
    first.gemm = p.hidden;
    second.gemm = p.out;
    first.activation = sm90::fast_activation(spec);
    first.tile = choice(tokens, true).tile;
    second.tile = choice(tokens, false).tile;
    first.sms = second.sms = device.cores;
    first.overlaps_predecessor = second.overlaps_predecessor = true;
    second.weights_ready = true;
    const auto product = [&](const sm90::GemmCall& call, bool gated) {
      if (half) return gated ? sm90::gemm_f16_gated(call, stream.get()) : sm90::gemm_f16(call, stream.get());
      return gated ? sm90::gemm_bf16_gated(call, stream.get()) : sm90::gemm_bf16(call, stream.get());
    };
    require(product(first, spec.gated));
    require(product(second, false));
  }
  void forget() {
    require(cudaMemsetAsync(y.data(), 0xff, y.size(), stream.get()));
    require(cudaMemsetAsync(hidden.data(), 0xff, hidden.size(), stream.get()));
  }
  std::vector<std::uint16_t> result(std::int64_t tokens) {
    require(cudaStreamSynchronize(stream.get()));
    std::vector<std::uint16_t> bits(static_cast<std::size_t>(tokens * spec.d_out));
    require(cudaMemcpy(bits.data(), y.data(), bits.size() * 2, cudaMemcpyDeviceToHost));
    return bits;
  }
  // run(i) for i < count, as a graph.
  template <class Run>
  cudaGraphExec_t graph(int count, const Run& run) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < count; ++i) run(static_cast<std::size_t>(i));
    require(cudaStreamEndCapture(stream.get(), &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    require(cudaGraphDestroy(graph));
    return executable;
  }
};

void check(const std::string& text) {
  const MlpSpec spec = parse_spec(text).value();
  Mlp a(spec, 2500, false), b(spec, 2500, false);
  for (const std::int64_t tokens : {1024, 1000, 2500, 130, 64, 1}) {
    a.forget();
    a.queue(false, 0, tokens);
    const std::vector<std::uint16_t> want = a.result(tokens);
    const auto tell = [&](const char* how, Mlp& m) {
      const std::vector<std::uint16_t> got = m.result(tokens);
      std::size_t off = 0;
      for (std::size_t i = 0; i < got.size(); ++i) off += got[i] != want[i];
      std::printf("%s %lld %s: %zu of %zu differ%s\n", text.c_str(), static_cast<long long>(tokens), how, off,
                  got.size(), off == 0 ? "" : " WRONG");
    };
    for (int i = 0; i < 5; ++i) {
      a.forget();
      a.queue(true, 0, tokens);
      if (i % 2 == 1) a.queue(true, 0, tokens);
    }
    tell("one launch", a);
    for (int i = 0; i < 20; ++i) a.queue(i % 3 != 0, 0, tokens);
    tell("mixed", a);
    const cudaGraphExec_t graph = a.graph(3, [&](std::size_t) { a.queue(true, 0, tokens); });
    const cudaGraphExec_t other = b.graph(3, [&](std::size_t) { b.queue(true, 0, tokens); });
    a.forget();
    b.forget();
    for (int i = 0; i < 40; ++i) {
      require(cudaGraphLaunch(graph, a.stream.get()));
      if (i % 2 == 0) require(cudaGraphLaunch(other, b.stream.get()));
      if (i % 4 == 1) b.queue(true, 0, tokens);
    }
    tell("graphs, stream a", a);
    tell("graphs, stream b", b);
    require(cudaGraphExecDestroy(graph));
    require(cudaGraphExecDestroy(other));
  }
}

void time(int rounds, const std::string& text, std::int64_t tokens) {
  const MlpSpec spec = parse_spec(text).value();
  Mlp mlp(spec, tokens, true);
  const int count = std::max(static_cast<int>(mlp.weights.size()), tokens * spec.d_hidden > (4 << 20) ? 12 : 40);
  cudaGraphExec_t graphs[2];
  for (int one = 0; one < 2; ++one) {
    graphs[one] = mlp.graph(count, [&](std::size_t i) { mlp.queue(one == 1, i, tokens); });
  }
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  std::vector<double> samples[2];
  for (int round = 0; round < rounds + 2; ++round) {
    for (int one = 0; one < 2; ++one) {
      require(cudaEventRecord(begin, mlp.stream.get()));
      require(cudaGraphLaunch(graphs[one], mlp.stream.get()));
      require(cudaEventRecord(end, mlp.stream.get()));
      require(cudaEventSynchronize(end));
      float ms = 0;
      require(cudaEventElapsedTime(&ms, begin, end));
      if (round > 1) samples[one].push_back(1e3 * static_cast<double>(ms) / count);
    }
  }
  for (auto& s : samples) std::sort(s.begin(), s.end());
  const double two = samples[0][samples[0].size() / 2], one = samples[1][samples[1].size() / 2];
  std::printf("%s %lld tiles %d %d: two launches %.2f us (least %.2f), one %.2f (%.2f), %.3f\n", text.c_str(),
              static_cast<long long>(tokens), mlp.choice(tokens, true).tile, mlp.choice(tokens, false).tile, two,
              samples[0][0], one, samples[1][0], one / two);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "check") {
    for (int i = 2; i < argc; ++i) check(argv[i]);
  }
  if (what == "time") {
    for (int i = 3; i + 1 < argc; i += 2) time(std::atoi(argv[2]), argv[i], std::atoll(argv[i + 1]));
  }
}
