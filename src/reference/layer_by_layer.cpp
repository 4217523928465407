// The baseline: each layer computed and rounded to the storage type as PyTorch's eager mode does, sums in fp32
// in the order of the index. Plain loops over small tiles; it runs everything that is valid.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/activation.h"
#include "core/cost_model.h"
#include "core/kernel.h"
#include "core/numeric.h"
#include "core/weight_rows.h"

namespace fusedmlp::core {
namespace {

// A task computes kRows tokens by kCols outputs; its operands, widened to fp32, lie on the stack.
constexpr std::int64_t kRows = 32;
constexpr std::int64_t kCols = 16;
constexpr std::int64_t kDepth = 128;
static_assert(kRows % 2 == 0 && kCols % 4 == 0, "rows are taken in pairs, columns in vectors of four");

// Bounds the stored hidden: more tokens are taken in turns.
constexpr std::int64_t kHiddenBytes = std::int64_t{32} << 20;

struct Input {
  const void* data;
  std::int64_t stride;
  std::int64_t tokens;
  std::int64_t width;
};

struct Linear {
  MatrixView weight;
  VectorView bias;
};

using Tile = float[kRows][kCols];

float rounded(DType dtype, float value) {
  switch (dtype) {
    case DType::f32: return value;
    case DType::bf16: return bf16_to_float(float_to_bf16(value));
    case DType::f16: return f16_to_float(float_to_f16(value));
  }
  return value;
}

// n elements `stride` apart, as float.
void widen(DType dtype, const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* out) {
  if (dtype == DType::f32) {
    const float* from = static_cast<const float*>(data) + first;
    for (std::int64_t i = 0; i < n; ++i) out[i] = from[i * stride];
    return;
  }
  const std::uint16_t* from = static_cast<const std::uint16_t*>(data) + first;
  if (dtype == DType::bf16) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = bf16_to_float(from[i * stride]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) out[i] = f16_to_float(from[i * stride]);
  }
}

// Rows r and r + 1 of out += x W^T over `depth` inputs: two rows at a time, so that enough independent sums are
// under way to hide the latency of an addition.
void add_products(const float (&xs)[kRows][kDepth], const float (&ws)[kDepth][kCols], std::int64_t r,
                  std::int64_t depth, Tile& out) {
  // A vector of 16 bytes: what every x86-64 has, and the compiler's own loops over an array leave registers.
  using Lanes [[gnu::vector_size(16)]] = float;
  constexpr int kVectors = kCols / 4;
  Lanes sums[2][kVectors];
  std::memcpy(sums, out[r], sizeof sums);
  for (std::int64_t k = 0; k < depth; ++k) {
    Lanes w[kVectors];
    std::memcpy(w, ws[k], sizeof w);
    for (int v = 0; v < kVectors; ++v) {
      sums[0][v] += xs[r][k] * w[v];
      sums[1][v] += xs[r + 1][k] * w[v];
    }
  }
  std::memcpy(out[r], sums, sizeof sums);
}

// out = round(x W^T + b) for rows [row, row + rows) and outputs [col, col + cols). Every element is summed over
// the input index in ascending order; lanes of the vector unit are different outputs.
void linear(DType dtype, const Input& x, const Linear& layer, std::int64_t row, std::int64_t rows, std::int64_t col,
            std::int64_t cols, Tile& out) {
  float xs[kRows][kDepth];
  float ws[kDepth][kCols] = {};
  float line[kDepth];
  std::fill(&out[0][0], &out[0][0] + kRows * kCols, 0.0f);
  const MatrixView& w = layer.weight;
  const std::int64_t pairs_end = (rows + 1) / 2 * 2;
  for (std::int64_t r = rows; r < pairs_end; ++r) std::fill(xs[r], xs[r] + kDepth, 0.0f);
  for (std::int64_t k0 = 0; k0 < x.width; k0 += kDepth) {
    const std::int64_t depth = std::min(kDepth, x.width - k0);
    for (std::int64_t r = 0; r < rows; ++r) widen(dtype, x.data, (row + r) * x.stride + k0, 1, depth, xs[r]);
    for (std::int64_t c = 0; c < cols; ++c) {
      widen(dtype, w.data, (col + c) * w.row_stride + k0 * w.col_stride, w.col_stride, depth, line);
      for (std::int64_t k = 0; k < depth; ++k) ws[k][c] = line[k];
    }
    for (std::int64_t r = 0; r < pairs_end; r += 2) add_products(xs, ws, r, depth, out);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      float value = out[r][c];
      if (layer.bias.data != nullptr) value += load(dtype, layer.bias.data, (col + c) * layer.bias.stride);
      out[r][c] = rounded(dtype, value);
    }
  }
}

// The hidden value from the rounded outputs of the layers before it, rounded after the activation and after
// the product with up.
float hidden_value(const MlpSpec& spec, float gate, float up) {
  const DType t = spec.dtype;
  if (!spec.gated) return rounded(t, activate(spec.activation, up));
  if (spec.activation != Activation::swiglu_oai) {
    return rounded(t, rounded(t, activate(spec.activation, gate)) * up);
  }
  const float g = gate > spec.limit ? spec.limit : gate;
  const float u = up > spec.limit ? spec.limit : (up < -spec.limit ? -spec.limit : up);
  return rounded(t, rounded(t, g * sigmoid(spec.alpha * g)) * (u + 1.0f));
}

std::int64_t blocks(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// task(row, rows, col, cols) for every tile of a [tokens, width] result, in parallel.
template <class Task>
void for_each_tile(Executor& executor, std::int64_t tokens, std::int64_t width, const Task& task) {
  // A strip of columns is one task: it reads its weights once for all row blocks of the turn.
  const std::int64_t row_blocks = blocks(tokens, kRows);
  struct Context {
    const Task& task;
    std::int64_t tokens, width, row_blocks;
  } context{task, tokens, width, row_blocks};
  executor.parallel(
      static_cast<int>(blocks(width, kCols)),
      [](void* opaque, int index) {
        const Context& c = *static_cast<const Context*>(opaque);
        const std::int64_t col = index * kCols;
        for (std::int64_t block = 0; block < c.row_blocks; ++block) {
          const std::int64_t row = block * kRows;
          c.task(row, std::min(kRows, c.tokens - row), col, std::min(kCols, c.width - col));
        }
      },
      &context);
}

// Tokens whose hidden is stored at a time.
std::int64_t turn(const MlpSpec& spec, std::int64_t tokens) {
  const std::int64_t row_bytes = spec.d_hidden * static_cast<std::int64_t>(size_of(spec.dtype));
  const std::int64_t fitting = std::max(kRows, kHiddenBytes / row_bytes / kRows * kRows);
  return std::min(tokens, fitting);
}

std::size_t workspace_bytes(const Query& query) {
  return static_cast<std::size_t>(turn(query.spec, query.tokens) * query.spec.d_hidden) * size_of(query.spec.dtype);
}

Status run(const Problem& problem, const RunArgs& args, const DeviceInfo&) {
  const MlpSpec& spec = problem.spec;
  const HiddenWeights weights = resolve(spec, problem.weights);
  const Linear gate{weights.gate, weights.bias_gate};
  const Linear up{weights.up, weights.bias_up};
  const Linear down{problem.weights.down, problem.weights.bias_down};
  const auto size = static_cast<std::int64_t>(size_of(spec.dtype));
  const std::int64_t step = turn(spec, args.tokens);

  for (std::int64_t first = 0; first < args.tokens; first += step) {
    const std::int64_t tokens = std::min(step, args.tokens - first);
    const Input x{static_cast<const char*>(args.x) + first * args.ldx * size, args.ldx, tokens, spec.d_in};
    const Input hidden{args.workspace, spec.d_hidden, tokens, spec.d_hidden};
    void* y = static_cast<char*>(args.y) + first * args.ldy * size;

    for_each_tile(*args.executor, tokens, spec.d_hidden,
                  [&](std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols) {
                    Tile gates;
                    Tile ups;
                    if (spec.gated) linear(spec.dtype, x, gate, row, rows, col, cols, gates);
                    linear(spec.dtype, x, up, row, rows, col, cols, ups);
                    for (std::int64_t r = 0; r < rows; ++r) {
                      for (std::int64_t c = 0; c < cols; ++c) {
                        const float g = spec.gated ? gates[r][c] : 0.0f;
                        store(spec.dtype, args.workspace, (row + r) * spec.d_hidden + col + c,
                              hidden_value(spec, g, ups[r][c]));
                      }
                    }
                  });
    for_each_tile(*args.executor, tokens, spec.d_out,
                  [&](std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols) {
                    Tile out;
                    linear(spec.dtype, hidden, down, row, rows, col, cols, out);
                    for (std::int64_t r = 0; r < rows; ++r) {
                      for (std::int64_t c = 0; c < cols; ++c) {
                        store(spec.dtype, y, (row + r) * args.ldy + col + c, out[r][c]);
                      }
                    }
                  });
  }
  return {};
}

// Baseline x86-64 code without FMA, 16-bit types converted one by one.
Prediction predict(const Query& query) {
  constexpr double kFlopsPerCore = 2e9;
  constexpr int kRegions = 2;
  const double compute =
      flops(query.spec, query.tokens) / (kFlopsPerCore * usable_threads(query.device, query.threads));
  const double memory = memory_seconds(query.spec, query.tokens, query.device, query.threads);
  return combine(compute, memory, 10e-6 + kRegions * query.device.launch_seconds, Basis::modelled);
}

}  // namespace

const KernelEntry& reference_kernel() {
  static const KernelEntry entry = {
      .name = "reference",
      .summary = "layer by layer in plain loops, every layer rounded to the storage type",
      .layout = nullptr,
      .unsupported = [](const Query&) { return std::string(); },
      .workspace_bytes = workspace_bytes,
      .predict = predict,
      .run = run,
  };
  return entry;
}

}  // namespace fusedmlp::core
