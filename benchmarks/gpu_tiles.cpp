// Times single products of cuda.portable with every tile and split beside the cost model's prediction: what its
// constants are fitted to. CUDA graph, weights cold in L2, medians.
//   fusedmlp_bench_gpu_tiles [M N K GATED]...     one line a tile: measured and predicted microseconds
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/sm80/tiles.h"
#include "gpu_require.h"

namespace {

using namespace fusedmlp;
namespace sm80 = fusedmlp::cuda::sm80;
using benchmarks::require;

constexpr double kColdBytes = 150e6;
constexpr int kSamples = 7;

// `bytes` bytes of bf16 between -2 and 2, never freed: the process is short.
void* random_memory(std::size_t bytes) {
  std::vector<std::uint16_t> host(bytes / 2);
  std::uint32_t state = 1;
  for (std::uint16_t& value : host) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<std::uint16_t>((state >> 16 & 0x807fu) | (0x3e00u + (state >> 8 & 0x180u)));
  }
  void* data = nullptr;
  require(cudaMalloc(&data, bytes));
  require(cudaMemcpy(data, host.data(), bytes, cudaMemcpyHostToDevice));
  return data;
}

void bench(std::int64_t m, int n, int k, bool gated) {
  const DeviceInfo device = *describe(Device::cuda());
  const sm80::Product product{m, n, k, gated, DType::bf16};
  const std::size_t weight = static_cast<std::size_t>(n) * static_cast<std::size_t>(k) * 2;
  const int copies = static_cast<int>(kColdBytes / static_cast<double>(weight * (gated ? 2 : 1))) + 2;
  auto* weights = static_cast<std::byte*>(random_memory(weight * static_cast<std::size_t>(copies) * (gated ? 2 : 1)));
  sm80::GemmCall call;
  call.gemm.a = random_memory(static_cast<std::size_t>(m * k) * 2);
  call.gemm.lda = k;
  call.gemm.out = random_memory(static_cast<std::size_t>(m * n) * 2);
  call.gemm.ldo = n;
  call.gemm.m = m;
  call.gemm.n = n;
  call.gemm.k = k;
  call.gated = gated;
  call.activation = cuda::activation_args({.activation = Activation::gelu_tanh});
  call.partial = static_cast<float*>(random_memory(sm80::kMostPartials * sizeof(float)));
  call.shared_per_sm = device.l1_bytes;
  call.shared_per_block = device.shared_memory_per_block;
  const sm80::GemmPlan chosen = sm80::choose(product, device);
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  for (int tile = 0; tile < sm80::kTileCount; ++tile) {
    if (gated && sm80::kTiles[tile].plain_along_k) continue;
    for (int splits = 1; splits <= 8; splits *= 2) {
      if (splits > 1 && (splits * m * n * (gated ? 2 : 1) > sm80::kMostPartials || k < splits * 256)) break;
      call.plan = {static_cast<sm80::TileName>(tile), splits};
      const auto run_all = [&] {
        for (int i = 0; i < copies; ++i) {
          std::byte* w = weights + weight * static_cast<std::size_t>(i) * (gated ? 2 : 1);
          call.gemm.w = {w, k, 1};
          if (gated) call.gemm.gate = {w + weight, k, 1};
          const Status status = gated ? sm80::gemm_bf16_gated(call, stream) : sm80::gemm_bf16(call, stream);
          if (!status) std::fprintf(stderr, "%s\n", status.to_string().c_str());
        }
      };
      run_all();
      require(cudaStreamSynchronize(stream));
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t executable = nullptr;
      require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
      run_all();
      require(cudaStreamEndCapture(stream, &graph));
      require(cudaGraphInstantiate(&executable, graph, 0));
      std::vector<float> samples;
      for (int i = 0; i < kSamples + 1; ++i) {
        require(cudaEventRecord(begin, stream));
        require(cudaGraphLaunch(executable, stream));
        require(cudaEventRecord(end, stream));
        require(cudaEventSynchronize(end));
        float ms = 0;
        require(cudaEventElapsedTime(&ms, begin, end));
        if (i > 0) samples.push_back(ms * 1e3f / static_cast<float>(copies));
      }
      std::sort(samples.begin(), samples.end());
      const bool taken = chosen.tile == call.plan.tile && chosen.splits == splits;
      std::printf(
          "%6lld %6d %6d %s tile %d splits %d: %8.2f us, predicted %8.2f, %6.1f TFLOP/s%s\n",
          static_cast<long long>(m), n, k, gated ? "gated" : "plain", tile, splits,
          static_cast<double>(samples[kSamples / 2]), sm80::predicted_seconds(product, call.plan, device) * 1e6,
          2e-6 * static_cast<double>(m) * n * k * (gated ? 2 : 1) / static_cast<double>(samples[kSamples / 2]),
          taken ? "  <- chosen" : "");
    }
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    for (int i = 1; i + 3 < argc; i += 4) {
      bench(std::atoll(argv[i]), std::atoi(argv[i + 1]), std::atoi(argv[i + 2]), std::atoi(argv[i + 3]) != 0);
    }
    return 0;
  }
  for (const int m : {16, 64, 256, 1024, 8192}) {
    bench(m, 3072, 768, true);
    bench(m, 768, 3072, false);
    if (m >= 1024) bench(m, 4096, 4096, false);
  }
  bench(8192, 3072, 768, false);
  bench(16, 14336, 4096, true);
  bench(1024, 14336, 4096, true);
  bench(1024, 4096, 14336, false);
}
