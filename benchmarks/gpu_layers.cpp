// A stack of MLPs in one CUDA graph: each layer has its own weights and reads what the one before it wrote.
//   fusedmlp_bench_gpu_layers [--layers N] [--tokens N,N..] [--json FILE] [SPEC]...
// Three graphs in turn: with programmatic dependent launch, as the library queues its kernels; the same kernels with
// every such edge made a full dependency; and one layer by itself, weights cold, whose time is given times N.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/cost_model.h"
#include "core/dispatch.h"
#include "core/numeric.h"
#include "core/text.h"
#include "cuda/common/operands.h"
#include "fusedmlp/fusedmlp.h"
#include "gpu_require.h"

namespace {

using namespace fusedmlp;
using benchmarks::require;
using benchmarks::take;

constexpr int kSamples = 21;
constexpr double kSampleSeconds = 4e-3;

cuda::DeviceMemory allocate(std::size_t bytes) { return take(cuda::DeviceMemory::allocate(bytes)); }

struct Layer {
  cuda::DeviceWeights weights;
  std::unique_ptr<Plan> plan;
};

class Stack {
 public:
  Stack(const MlpSpec& spec, int layers, std::int64_t most_tokens) : spec_(spec) {
    const std::size_t bytes = static_cast<std::size_t>(most_tokens * spec.d_in) * size_of(spec.dtype);
    for (cuda::DeviceMemory& values : values_) values = allocate(bytes);
    input_ = allocate(bytes);
    require(cuda::fill_normal(spec.dtype, input_.data(), most_tokens * spec.d_in, 1));
    for (int i = 0; i < layers; ++i) {
      Layer layer{take(cuda::DeviceWeights::allocate(spec)), nullptr};
      require(i == 0 ? layer.weights.fill() : layer.weights.copy(layers_.front().weights));
      layer.plan = std::make_unique<Plan>(take(Plan::create(spec, layer.weights.views(), Device::cuda())));
      workspace_bytes_ = std::max(workspace_bytes_, layer.plan->workspace_bytes(most_tokens));
      layers_.push_back(std::move(layer));
    }
    workspace_ = allocate(workspace_bytes_);
    keep_values_alive(std::min<std::int64_t>(64, most_tokens));
  }

  int layers() const { return static_cast<int>(layers_.size()); }
  // Queues layers [first, last).
  void queue(std::int64_t tokens, int first, int last, cudaStream_t stream) const {
    for (int i = first; i < last; ++i) {
      RunArgs args;
      args.x = i == 0 ? input_.data() : values_[(i + 1) % 2].data();
      args.y = values_[i % 2].data();
      args.tokens = tokens;
      args.stream = stream;
      args.workspace = workspace_.data();
      args.workspace_bytes = workspace_bytes_;
      require(layers_[static_cast<std::size_t>(i)].plan->run(args));
    }
  }
  // y of the last layer.
  std::vector<std::byte> last(std::int64_t tokens) const { return values_after(layers() - 1, tokens); }

 private:
  std::vector<std::byte> values_after(int layer, std::int64_t tokens) const {
    std::vector<std::byte> host(static_cast<std::size_t>(tokens * spec_.d_out) * size_of(spec_.dtype));
    require(cudaDeviceSynchronize());
    require(cudaMemcpy(host.data(), values_[layer % 2].data(), host.size(), cudaMemcpyDeviceToHost));
    return host;
  }
  // Scales each layer's second matrix so that its outputs have variance 1, as a norm between layers would: random
  // MLPs shrink their input, gated ones by its square, and zeros take less power than numbers.
  void keep_values_alive(std::int64_t tokens) {
    const float plain = 1 / std::sqrt(static_cast<float>(spec_.d_hidden));
    for (int i = 0; i < layers(); ++i) {
      queue(tokens, i, i + 1, nullptr);
      const std::vector<std::byte> y = values_after(i, tokens);
      double sum = 0;
      for (std::int64_t e = 0; e < tokens * spec_.d_out; ++e) {
        const double value = core::load(spec_.dtype, y.data(), e);
        sum += value * value;
      }
      const auto rms = static_cast<float>(std::sqrt(sum / static_cast<double>(tokens * spec_.d_out)));
      const MatrixView& down = layers_[static_cast<std::size_t>(i)].weights.views().down;
      require(cuda::fill_normal(spec_.dtype, const_cast<void*>(down.data), down.rows * down.cols, plain / rms));
      queue(tokens, i, i + 1, nullptr);
    }
    require(cudaDeviceSynchronize());
  }

  MlpSpec spec_;
  cuda::DeviceMemory input_, values_[2], workspace_;
  std::size_t workspace_bytes_ = 0;
  std::vector<Layer> layers_;
};

// Every programmatic edge of the graph becomes one that waits for its predecessor's end. Returns how many there were.
std::size_t make_full_dependencies(cudaGraph_t graph) {
  std::size_t count = 0;
  require(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &count));
  std::vector<cudaGraphNode_t> from(count), to(count);
  std::vector<cudaGraphEdgeData> data(count);
  require(cudaGraphGetEdges(graph, from.data(), to.data(), data.data(), &count));
  std::size_t changed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (data[i].type != cudaGraphDependencyTypeProgrammatic) continue;
    const cudaGraphEdgeData full{};
    require(cudaGraphRemoveDependencies(graph, &from[i], &to[i], &data[i], 1));
    require(cudaGraphAddDependencies(graph, &from[i], &to[i], &full, 1));
    ++changed;
  }
  return changed;
}

struct Timed {
  cudaGraphExec_t graph = nullptr;
  std::size_t nodes = 0, overlaps = 0;
  int runs = 1;  // of the stack (or one layer) in a replay
  std::vector<double> samples;

  double median() {
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
  }
};

template <class Body>
Timed capture(cudaStream_t stream, bool overlapping, const Body& body) {
  Timed out;
  cudaGraph_t graph = nullptr;
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  body();
  require(cudaStreamEndCapture(stream, &graph));
  require(cudaGraphGetNodes(graph, nullptr, &out.nodes));
  if (!overlapping) out.overlaps = make_full_dependencies(graph);
  require(cudaGraphInstantiate(&out.graph, graph, 0));
  require(cudaGraphDestroy(graph));
  return out;
}

double seconds_of(const Timed& timed, int replays, cudaStream_t stream, cudaEvent_t begin, cudaEvent_t end) {
  require(cudaGraphLaunch(timed.graph, stream));  // hides the host's launch of the first one that is timed
  require(cudaEventRecord(begin, stream));
  for (int i = 0; i < replays; ++i) require(cudaGraphLaunch(timed.graph, stream));
  require(cudaEventRecord(end, stream));
  require(cudaEventSynchronize(end));
  float ms = 0;
  require(cudaEventElapsedTime(&ms, begin, end));
  return 1e-3 * static_cast<double>(ms) / replays;
}

struct Row {
  std::string spec, kernel;
  std::int64_t tokens = 0;
  double overlapped = 0, full = 0, singles = 0, limit = 0;
  std::size_t kernels = 0, overlaps = 0;
};

Row measure(const MlpSpec& spec, const Stack& stack, std::int64_t tokens, cudaStream_t stream) {
  const DeviceInfo device = take(describe(Device::cuda()));
  const int n = stack.layers();
  stack.queue(tokens, 0, n, stream);  // loads the code
  require(cudaStreamSynchronize(stream));
  const std::vector<std::byte> want = stack.last(tokens);
  const auto whole = [&] { stack.queue(tokens, 0, n, stream); };
  std::vector<Timed> all;
  all.push_back(capture(stream, true, whole));
  all.push_back(capture(stream, false, whole));
  for (const Timed& timed : all) {  // the same bits however they are queued
    require(cudaGraphLaunch(timed.graph, stream));
    require(cudaStreamSynchronize(stream));
    if (stack.last(tokens) == want) continue;
    std::fprintf(stderr, "%s, %lld tokens: the graph's output differs\n", to_string(spec).c_str(),
                 static_cast<long long>(tokens));
    std::exit(1);
  }
  // Single layers: a graph each, so that nothing overlaps and there is a gap after each; all weights in turn.
  std::vector<Timed> singles;
  for (int i = 0; i < n; ++i) {
    singles.push_back(capture(stream, false, [&] { stack.queue(tokens, i, i + 1, stream); }));
  }
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  std::vector<double> single_samples;
  const int replays = std::clamp(static_cast<int>(kSampleSeconds / seconds_of(all[0], 1, stream, begin, end)), 1, 50);
  for (int sample = 0; sample < kSamples; ++sample) {
    for (Timed& timed : all) timed.samples.push_back(seconds_of(timed, replays, stream, begin, end));
    require(cudaGraphLaunch(singles.back().graph, stream));
    require(cudaEventRecord(begin, stream));
    for (const Timed& one : singles) require(cudaGraphLaunch(one.graph, stream));
    require(cudaEventRecord(end, stream));
    require(cudaEventSynchronize(end));
    float ms = 0;
    require(cudaEventElapsedTime(&ms, begin, end));
    single_samples.push_back(1e-3 * static_cast<double>(ms));
  }
  std::sort(single_samples.begin(), single_samples.end());
  Row row;
  row.spec = to_string(spec);
  const core::Query query{spec, tokens, device, 1, false};
  row.kernel = take(core::choose(query))->name;
  row.tokens = tokens;
  row.overlapped = all[0].median();
  row.full = all[1].median();
  row.singles = single_samples[single_samples.size() / 2];
  row.kernels = all[0].nodes;
  row.overlaps = all[1].overlaps;
  DeviceInfo cold = device;
  cold.l2_bytes = 0;
  row.limit = n * core::physical_limit(spec, tokens, cold, 1).seconds;
  for (const Timed& timed : all) require(cudaGraphExecDestroy(timed.graph));
  for (const Timed& timed : singles) require(cudaGraphExecDestroy(timed.graph));
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  return row;
}

void write_json(const std::string& path, const std::string& command, int layers, const std::vector<Row>& rows) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    std::fprintf(stderr, "--json: cannot write %s\n", path.c_str());
    std::exit(1);
  }
  std::fprintf(file,
               "{\"command\": \"%s\", \"version\": \"%s\", \"device\": \"%s\", \"date\": \"%s\", \"layers\": %d, "
               "\"results\": [",
               command.c_str(), version(), take(describe(Device::cuda())).name.c_str(), core::utc_now().c_str(),
               layers);
  const char* comma = "";
  for (const Row& row : rows) {
    std::fprintf(file,
                 "%s\n{\"spec\": \"%s\", \"tokens\": %lld, \"kernel\": \"%s\", \"kernels\": %zu, \"overlaps\": %zu, "
                 "\"overlapped_us\": %.2f, \"full_dependencies_us\": %.2f, \"single_graphs_us\": %.2f, "
                 "\"limit_us\": %.2f}",
                 comma, row.spec.c_str(), static_cast<long long>(row.tokens), row.kernel.c_str(), row.kernels,
                 row.overlaps, row.overlapped * 1e6, row.full * 1e6, row.singles * 1e6, row.limit * 1e6);
    comma = ",";
  }
  std::fputs("\n]}\n", file);
  require(std::fclose(file) == 0 ? Status() : Status(StatusCode::internal, "--json", "cannot be written"));
}

std::vector<std::int64_t> numbers(const std::string& text) {
  std::vector<std::int64_t> out;
  for (std::size_t at = 0; at < text.size();) {
    out.push_back(std::max<std::int64_t>(1, std::atoll(text.c_str() + at)));
    at = text.find(',', at);
    at = at == std::string::npos ? text.size() : at + 1;
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  int layers = 32;
  std::vector<std::int64_t> tokens = {1, 16, 64, 1024};
  std::vector<std::string> specs;
  std::string json, command = "fusedmlp_bench_gpu_layers";
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--json") == 0 && more) {
      json = argv[++i];
      continue;
    }
    command.append(" ").append(argv[i]);
    if (std::strcmp(argv[i], "--layers") == 0 && more) {
      layers = std::max(1, std::atoi(argv[++i]));
      command.append(" ").append(argv[i]);
    } else if (std::strcmp(argv[i], "--tokens") == 0 && more) {
      tokens = numbers(argv[++i]);
      command.append(" ").append(argv[i]);
    } else {
      specs.emplace_back(argv[i]);
    }
  }
  if (specs.empty()) specs = {"geglu_tanh:768x3072,bf16", "gelu:768x3072+bias,bf16", "swiglu:4096x14336,bf16"};
  const cuda::OwnStream stream = take(cuda::OwnStream::create());
  std::printf("%-26s %6s  %-14s %12s %10s %12s %10s %9s %9s\n", "spec", "tokens", "kernel", "PDL us", "a layer",
              "without us", "a layer", "saved", "of limit");
  std::vector<Row> rows;
  for (const std::string& text : specs) {
    const MlpSpec spec = take(parse_spec(text));
    if (spec.d_in != spec.d_out) {
      std::fprintf(stderr, "SPEC: got %s, accepted: MLPs whose output is as wide as their input\n", text.c_str());
      return 2;
    }
    const Stack stack(spec, layers, *std::max_element(tokens.begin(), tokens.end()));
    for (const std::int64_t count : tokens) {
      const Row row = measure(spec, stack, count, stream.get());
      std::printf("%-26s %6lld  %-14s %12.1f %10.2f %12.1f %10.2f %7.1f %% %7.1f %%   one graph a layer %.1f\n",
                  text.c_str(), static_cast<long long>(count), row.kernel.c_str(), row.overlapped * 1e6,
                  row.overlapped * 1e6 / layers, row.full * 1e6, row.full * 1e6 / layers,
                  100 * (1 - row.overlapped / row.full), 100 * row.limit / row.overlapped, row.singles * 1e6);
      std::fflush(stdout);
      rows.push_back(row);
    }
  }
  if (!json.empty()) write_json(json, command, layers, rows);
}
