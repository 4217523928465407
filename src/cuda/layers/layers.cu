// cuda.layers: each layer computed and rounded to the storage type, as PyTorch's eager mode does. The unfused
// baseline, and what runs when nothing else can: any type, size, stride, alignment and layout.
#include <algorithm>
#include <cmath>

#include "core/activation.h"
#include "core/cost_model.h"
#include "core/sm_rates.h"
#include "cuda/common/launch.h"
#include "cuda/common/simt_gemm.cuh"
#include "cuda/common/two_gemms.h"
#include "cuda/entries.h"

namespace fusedmlp::cuda {
namespace {

constexpr char kName[] = "cuda.layers";

using Tile = SimtTile<64, 64, 16, false>;

// out = round(a w^T + bias)
template <class T>
__global__ void __launch_bounds__(Tile::kThreads) linear_kernel(const Gemm g) {
  __shared__ Tile::Shared shared;
  const int columns = (g.n + Tile::kN - 1) / Tile::kN;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x / columns) * Tile::kM;
  const int col = static_cast<int>(blockIdx.x % columns) * Tile::kN;
  float sums[1][Tile::kRows][Tile::kCols];
  simt_product<T, Tile>(g, row, col, shared, sums);
  for (int r = 0; r < Tile::kRows; ++r) {
    const std::int64_t m = row + simt_row(r);
    if (m >= g.m) break;
    for (int c = 0; c < Tile::kCols; ++c) {
      const int n = col + simt_col(c);
      if (n >= g.n) break;
      static_cast<T*>(g.out)[m * g.ldo + n] = from_float<T>(sums[0][r][c] + bias_at<T>(g.bias, n));
    }
  }
}

// up[i] = f(up[i]), or gated up[i] = round(f(gate[i])) * up[i]
template <class T>
__global__ void activation_kernel(const MlpSpec spec, const T* gate, T* up, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const float u = to_float(up[i]);
    if (!spec.gated) {
      up[i] = from_float<T>(core::activate(spec.activation, u));
      continue;
    }
    const float g = to_float(gate[i]);
    if (spec.activation != Activation::swiglu_oai) {
      up[i] = from_float<T>(to_float(from_float<T>(core::activate(spec.activation, g))) * u);
      continue;
    }
    const float clamped_gate = g > spec.limit ? spec.limit : g;
    const float clamped_up = u > spec.limit ? spec.limit : (u < -spec.limit ? -spec.limit : u);
    const float left = to_float(from_float<T>(clamped_gate * core::sigmoid(spec.alpha * clamped_gate)));
    up[i] = from_float<T>(left * (clamped_up + 1.0f));
  }
}

template <class T>
Status linear(const Gemm& g, cudaStream_t stream) {
  Launch how;
  how.grid = static_cast<unsigned>(tiles(g.m, g.n, Tile::kM, Tile::kN));
  how.block = Tile::kThreads;
  how.stream = stream;
  return launch<linear_kernel<T>>(kName, how, 0, g);
}

// Tokens whose gate and up are stored at a time.
std::int64_t turn(const MlpSpec& spec, std::int64_t tokens) {
  return turn_rows(tokens, spec.d_hidden * static_cast<std::int64_t>(size_of(spec.dtype)) * (spec.gated ? 2 : 1));
}

std::size_t workspace_bytes(const core::Query& query) {
  const MlpSpec& spec = query.spec;
  return static_cast<std::size_t>(turn(spec, query.tokens) * spec.d_hidden * (spec.gated ? 2 : 1)) *
         size_of(spec.dtype);
}

template <class T>
Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const MlpSpec& spec = problem.spec;
  const auto stream = static_cast<cudaStream_t>(args.stream);
  const std::int64_t step = turn(spec, args.tokens);
  T* up = static_cast<T*>(args.workspace);
  T* gate = spec.gated ? up + step * spec.d_hidden : nullptr;
  return for_each_turn(problem, args, step, up, spec.d_hidden, [&](const TwoGemms& products) {
    if (Status status = linear<T>(products.hidden, stream); !status) return status;
    if (spec.gated) {
      Gemm g = products.hidden;
      g.w = g.gate;
      g.bias = g.gate_bias;
      g.out = gate;
      if (Status status = linear<T>(g, stream); !status) return status;
    }
    const std::int64_t count = products.hidden.m * spec.d_hidden;
    Launch how;
    how.block = 256;
    how.grid = static_cast<unsigned>(std::min<std::int64_t>((count + 255) / 256, 8 * std::int64_t{device.cores}));
    how.stream = stream;
    Status status = launch<activation_kernel<T>>(kName, how, 0, spec, static_cast<const T*>(gate), up, count);
    return status ? linear<T>(products.out, stream) : status;
  });
}

Status run_any(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  switch (problem.spec.dtype) {
    case DType::f32: return run<float>(problem, args, device);
    case DType::bf16: return run<bf16>(problem, args, device);
    case DType::f16: return run<f16>(problem, args, device);
  }
  return Status(StatusCode::internal, "spec", "unknown dtype");
}

// The kernels wait for each slice of k: with few blocks that latency is all there is. Measured on an H100, as is the
// share of the plain lanes' rate that many blocks reach, whatever the storage type.
constexpr double kSliceSeconds = 1.4e-6;
constexpr double kShareOfFp32Peak = 0.25;
constexpr double kBlocksPerSm = 2;

double latency_seconds(std::int64_t m, std::int64_t n, std::int64_t k, const DeviceInfo& device) {
  const double waves =
      std::ceil(static_cast<double>(tiles(m, n, Tile::kM, Tile::kN)) / (kBlocksPerSm * device.cores));
  return waves * static_cast<double>((k + Tile::kK - 1) / Tile::kK) * kSliceSeconds;
}

core::Prediction predict(const core::Query& query) {
  const MlpSpec& spec = query.spec;
  const double peak = core::peak_flops(query.device, DType::f32, query.threads);
  const double hidden_bytes = 4.0 * static_cast<double>(query.tokens) * static_cast<double>(spec.d_hidden) *
                              static_cast<double>(size_of(spec.dtype));
  const double memory = core::memory_seconds(spec, query.tokens, query.device, query.threads) +
                        hidden_bytes / query.device.memory_bandwidth;
  const int kernels = spec.gated ? 4 : 3;
  const double latency = (kernels - 2) * latency_seconds(query.tokens, spec.d_hidden, spec.d_in, query.device) +
                         latency_seconds(query.tokens, spec.d_out, spec.d_hidden, query.device);
  return core::combine(std::max(flops(spec, query.tokens) / (kShareOfFp32Peak * peak), latency), memory,
                       kernels * (query.device.launch_seconds + core::kKernelRampSeconds), Basis::modelled);
}

}  // namespace

core::KernelEntry layers_kernel() {
  return {
      .name = kName,
      .summary = "layer by layer on the fp32 lanes, every layer rounded to the storage type",
      .layout = nullptr,
      .unsupported = [](const core::Query&) { return std::string(); },
      .workspace_bytes = workspace_bytes,
      .predict = predict,
      .run = run_any,
  };
}

}  // namespace fusedmlp::cuda
