// What a call costs beyond its arithmetic: a layer so small that one core computes it in about a microsecond.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/device.h"
#include "core/dispatch.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp {
namespace {

// Weights, x and y of zeros: the time depends on no value.
class Layer {
 public:
  explicit Layer(const char* text) : spec(parse_spec(text).value()) {
    const std::size_t element = size_of(spec.dtype);
    memory_.resize(static_cast<std::size_t>(weight_elements(spec) + spec.d_in + spec.d_out) * element);
    std::byte* next = memory_.data();
    const auto take = [&](std::int64_t elements) {
      std::byte* at = next;
      next += static_cast<std::size_t>(elements) * element;
      return at;
    };
    weights.up = MatrixView::out_in(take(spec.d_hidden * spec.d_in), spec.d_hidden, spec.d_in);
    weights.down = MatrixView::out_in(take(spec.d_out * spec.d_hidden), spec.d_out, spec.d_hidden);
    if (spec.bias_up) weights.bias_up = {take(spec.d_hidden), spec.d_hidden, 1};
    if (spec.bias_down) weights.bias_down = {take(spec.d_out), spec.d_out, 1};
    x = take(spec.d_in);
    y = take(spec.d_out);
  }

  MlpSpec spec;
  MlpWeights weights;
  void* x;
  void* y;

 private:
  std::vector<std::byte> memory_;
};

constexpr const char* kSpecs[] = {"gelu:64x256+bias", "gelu:64x256+bias,bf16"};

void plan_run(benchmark::State& state) {
  Layer layer(kSpecs[state.range(0)]);
  const Plan plan = Plan::create(layer.spec, layer.weights).value();
  state.SetLabel(kSpecs[state.range(0)]);
  for (auto _ : state) {
    if (!plan.run(layer.x, layer.y, 1)) state.SkipWithError("run failed");
  }
}
BENCHMARK(plan_run)->Arg(0)->Arg(1);

// What is left of plan_run() without checks, dispatch and workspace: the kernel itself.
void kernel_alone(benchmark::State& state) {
  Layer layer(kSpecs[state.range(0)]);
  const DeviceInfo& device = **core::cpu_device();
  Executor& executor = default_executor();
  const core::Query query{layer.spec, 1, device, executor.concurrency(), true};
  const core::KernelEntry& entry = **core::choose(query);
  const core::AlignedBuffer packed(entry.layout->bytes(layer.spec, device));
  if (!entry.layout->pack(layer.spec, layer.weights, device, packed.data(), executor)) return;
  const core::AlignedBuffer workspace(entry.workspace_bytes(query));
  RunArgs args;
  args.x = layer.x;
  args.ldx = layer.spec.d_in;
  args.y = layer.y;
  args.ldy = layer.spec.d_out;
  args.tokens = 1;
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.size();
  args.executor = &executor;
  state.SetLabel(kSpecs[state.range(0)]);
  for (auto _ : state) {
    if (!entry.run({layer.spec, layer.weights, packed.data()}, args, device)) state.SkipWithError("run failed");
  }
}
BENCHMARK(kernel_alone)->Arg(0)->Arg(1);

void choose_remembered(benchmark::State& state) {
  const MlpSpec spec = parse_spec(kSpecs[0]).value();
  const core::Query query{spec, 1, **core::cpu_device(), 2, true};
  for (auto _ : state) benchmark::DoNotOptimize(core::choose(query));
}
BENCHMARK(choose_remembered);

void choose_anew(benchmark::State& state) {
  const MlpSpec spec = parse_spec(kSpecs[0]).value();
  std::int64_t tokens = 0;
  for (auto _ : state) {
    tokens = tokens % 1000 + 1;  // more than are remembered
    benchmark::DoNotOptimize(core::choose({spec, tokens, **core::cpu_device(), 2, true}));
  }
}
BENCHMARK(choose_anew);

}  // namespace
}  // namespace fusedmlp
