// Times every GPU entry that can run a shape: CUDA graph, weights cold in L2, medians, entries interleaved.
//   fusedmlp_bench_gpu_kernels [SPEC TOKENS]...     one JSON object a line; without arguments a fixed list of shapes
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/kernel.h"
#include "core/numeric.h"
#include "fusedmlp/fusedmlp.h"

namespace {

using namespace fusedmlp;

constexpr double kColdBytes = 200e6;  // through L2 between two uses of the same copy of the weights
constexpr int kSamples = 15;
constexpr double kSampleSeconds = 4e-3;

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

struct DeviceFree {
  void operator()(void* data) const { static_cast<void>(cudaFree(data)); }
};
using Memory = std::unique_ptr<void, DeviceFree>;

Memory allocate(std::size_t bytes) {
  void* data = nullptr;
  require(cudaMalloc(&data, bytes));
  return Memory(data);
}

// `elements` normal numbers of the given size, a repeating pattern of a million.
Memory random_elements(DType dtype, std::int64_t elements, float scale) {
  constexpr std::int64_t kPattern = 1000003;
  std::vector<std::byte> host(static_cast<std::size_t>(elements) * size_of(dtype));
  std::mt19937 engine(7);
  std::normal_distribution<float> normal(0, scale);
  for (std::int64_t i = 0; i < std::min(elements, kPattern); ++i) core::store(dtype, host.data(), i, normal(engine));
  const std::size_t pattern = static_cast<std::size_t>(kPattern) * size_of(dtype);
  for (std::size_t at = pattern; at < host.size(); at += pattern) {
    std::copy_n(host.data(), std::min(pattern, host.size() - at), host.data() + at);
  }
  Memory memory = allocate(host.size());
  require(cudaMemcpy(memory.get(), host.data(), host.size(), cudaMemcpyHostToDevice));
  return memory;
}

Memory copy_of(const Memory& from, std::size_t bytes) {
  Memory memory = allocate(bytes);
  require(cudaMemcpy(memory.get(), from.get(), bytes, cudaMemcpyDeviceToDevice));
  return memory;
}

// One copy of the weights, the biases shared.
struct Weights {
  Memory up, gate, down;
  MlpWeights views;
};

struct Timed {
  std::string kernel;
  double predicted;
  cudaGraphExec_t graph = nullptr;
  int replays = 1;
  std::vector<double> samples;
};

double seconds_of(cudaGraphExec_t graph, int replays, cudaStream_t stream, cudaEvent_t begin, cudaEvent_t end) {
  require(cudaEventRecord(begin, stream));
  for (int i = 0; i < replays; ++i) require(cudaGraphLaunch(graph, stream));
  require(cudaEventRecord(end, stream));
  require(cudaEventSynchronize(end));
  float ms = 0;
  require(cudaEventElapsedTime(&ms, begin, end));
  return ms * 1e-3;
}

void bench(const MlpSpec& spec, std::int64_t tokens) {
  const Result<DeviceInfo> device = describe(Device::cuda());
  require(device.status());
  const std::int64_t h = spec.d_hidden;
  const float scale_in = 1 / std::sqrt(static_cast<float>(spec.d_in));
  const Memory up = random_elements(spec.dtype, h * spec.d_in, scale_in);
  const Memory down = random_elements(spec.dtype, h * spec.d_out, 1 / std::sqrt(static_cast<float>(h)));
  const Memory bias = random_elements(spec.dtype, std::max(h, spec.d_out), 0.5f);
  const Memory x = random_elements(spec.dtype, tokens * spec.d_in, 1);
  const Memory y = allocate(static_cast<std::size_t>(tokens * spec.d_out) * size_of(spec.dtype));

  const double weight_bytes = static_cast<double>(weight_elements(spec)) * static_cast<double>(size_of(spec.dtype));
  const double call_bytes = weight_bytes + static_cast<double>(tokens * (spec.d_in + spec.d_out)) *
                                               static_cast<double>(size_of(spec.dtype));
  const int copies = std::max(2, static_cast<int>(std::ceil(kColdBytes / call_bytes)) + 1);
  std::vector<Weights> all(static_cast<std::size_t>(copies));
  for (Weights& w : all) {
    const std::size_t in_bytes = static_cast<std::size_t>(h * spec.d_in) * size_of(spec.dtype);
    w.up = copy_of(up, in_bytes);
    w.views.up = MatrixView::out_in(w.up.get(), h, spec.d_in);
    if (spec.gated) {
      w.gate = copy_of(up, in_bytes);
      w.views.gate = MatrixView::out_in(w.gate.get(), h, spec.d_in);
    }
    w.down = copy_of(down, static_cast<std::size_t>(h * spec.d_out) * size_of(spec.dtype));
    w.views.down = MatrixView::out_in(w.down.get(), spec.d_out, h);
    if (spec.bias_up) w.views.bias_up = {bias.get(), h, 1};
    if (spec.bias_gate) w.views.bias_gate = {bias.get(), h, 1};
    if (spec.bias_down) w.views.bias_down = {bias.get(), spec.d_out, 1};
  }

  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  const core::Query query{spec, tokens, *device, 1, false};
  std::vector<Timed> entries;
  std::vector<Memory> workspaces;
  for (const core::KernelEntry& entry : core::kernels(DeviceType::cuda)) {
    if (!entry.unsupported(query).empty()) continue;
    Timed timed{entry.name, entry.predict(query).seconds, nullptr, 1, {}};
    // Layer by layer on the fp32 lanes takes far too long to be timed on large shapes.
    if (timed.kernel == "cuda.layers" && flops(spec, tokens) * copies > 3e11) continue;
    const std::size_t bytes = entry.workspace_bytes(query);
    workspaces.push_back(allocate(std::max<std::size_t>(bytes, 1)));
    RunArgs args;
    args.x = x.get();
    args.ldx = spec.d_in;
    args.y = y.get();
    args.ldy = spec.d_out;
    args.tokens = tokens;
    args.stream = stream;
    args.workspace = workspaces.back().get();
    args.workspace_bytes = bytes;
    require(entry.run({spec, all.front().views, nullptr}, args, *device));  // loads the code
    require(cudaStreamSynchronize(stream));
    cudaGraph_t graph = nullptr;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (const Weights& w : all) require(entry.run({spec, w.views, nullptr}, args, *device));
    require(cudaStreamEndCapture(stream, &graph));
    require(cudaGraphInstantiate(&timed.graph, graph, 0));
    require(cudaGraphDestroy(graph));
    const double once = seconds_of(timed.graph, 2, stream, begin, end) / 2;
    timed.replays = std::clamp(static_cast<int>(kSampleSeconds / once), 1, 50);
    entries.push_back(std::move(timed));
  }
  for (int sample = 0; sample < kSamples; ++sample) {
    for (Timed& timed : entries) {
      timed.samples.push_back(seconds_of(timed.graph, timed.replays, stream, begin, end) / timed.replays / copies);
    }
  }
  for (Timed& timed : entries) {
    std::sort(timed.samples.begin(), timed.samples.end());
    const double median = timed.samples[timed.samples.size() / 2];
    std::printf(
        "{\"spec\": \"%s\", \"tokens\": %lld, \"device\": \"%s\", \"kernel\": \"%s\", \"us\": %.2f, "
        "\"predicted_us\": %.2f, \"tflops\": %.1f, \"copies\": %d}\n",
        to_string(spec).c_str(), static_cast<long long>(tokens), device->name.c_str(), timed.kernel.c_str(),
        median * 1e6, timed.predicted * 1e6, flops(spec, tokens) / median * 1e-12, copies);
    require(cudaGraphExecDestroy(timed.graph));
  }
  std::fflush(stdout);
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  require(cudaStreamDestroy(stream));
}

struct Case {
  const char* spec;
  std::int64_t tokens;
};
constexpr Case kCases[] = {
    {"geglu_tanh:768x3072,bf16", 1},   {"geglu_tanh:768x3072,bf16", 16},     {"geglu_tanh:768x3072,bf16", 64},
    {"geglu_tanh:768x3072,bf16", 256}, {"geglu_tanh:768x3072,bf16", 1024},   {"geglu_tanh:768x3072,bf16", 8192},
    {"gelu:768x3072+bias,bf16", 8192}, {"gelu:1024x4096+bias,bf16", 8192},   {"gelu:4096x4096+bias,bf16", 1024},
    {"swiglu:4096x14336,bf16", 1},     {"swiglu:4096x14336,bf16", 16},       {"swiglu:4096x14336,bf16", 1024},
    {"swiglu:4096x14336,bf16", 8192},  {"geglu_tanh:2048x16384,bf16", 8192}, {"swiglu:2048x768,bf16", 8192},
    {"gelu:768x3072+bias,fp32", 1024},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    for (const Case& c : kCases) bench(*parse_spec(c.spec), c.tokens);
    return 0;
  }
  for (int i = 1; i + 1 < argc; i += 2) {
    const Result<MlpSpec> spec = parse_spec(argv[i]);
    require(spec.status());
    bench(*spec, std::atoll(argv[i + 1]));
  }
}
