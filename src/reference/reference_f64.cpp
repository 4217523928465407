// The truth: everything in fp64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/activation.h"
#include "core/numeric.h"
#include "core/weight_rows.h"
#include "fusedmlp/plan.h"
#include "reference/reference.h"

namespace fusedmlp::core {
namespace {

// Eight tokens at a time share one pass over a weight row, each with a sum of its own: independent chains of
// additions, and every sum in the order of the index.
constexpr std::int64_t kGroup = 8;

// [tokens, width] of doubles in groups of tokens, the token innermost; tokens past the end are 0.
struct Grouped {
  Grouped(std::int64_t tokens, std::int64_t columns)
      : groups((tokens + kGroup - 1) / kGroup),
        width(columns),
        data(static_cast<std::size_t>(groups * width * kGroup)) {}

  double& at(std::int64_t token, std::int64_t column) {
    return data[static_cast<std::size_t>((token / kGroup * width + column) * kGroup + token % kGroup)];
  }
  const double* group(std::int64_t index) const { return data.data() + index * width * kGroup; }

  std::int64_t groups;
  std::int64_t width;
  std::vector<double> data;
};

double element(DType dtype, const VectorView& bias, std::int64_t i) {
  return bias.data == nullptr ? 0.0 : static_cast<double>(load(dtype, bias.data, i * bias.stride));
}

void load_row(DType dtype, const MatrixView& matrix, std::int64_t row, double* out) {
  for (std::int64_t c = 0; c < matrix.cols; ++c) {
    out[c] = static_cast<double>(load(dtype, matrix.data, row * matrix.row_stride + c * matrix.col_stride));
  }
}

// sums[t] = bias + sum over i of weight[i] x[i][t]
void dot(const double* weight, const double* x, std::int64_t width, double bias, double (&sums)[kGroup]) {
  double totals[kGroup] = {};
  for (std::int64_t i = 0; i < width; ++i) {
    for (std::int64_t t = 0; t < kGroup; ++t) totals[t] += weight[i] * x[i * kGroup + t];
  }
  for (std::int64_t t = 0; t < kGroup; ++t) sums[t] = totals[t] + bias;
}

void absolute_dot(const double* weight, const double* x, std::int64_t width, double (&sums)[kGroup]) {
  double totals[kGroup] = {};
  for (std::int64_t i = 0; i < width; ++i) {
    for (std::int64_t t = 0; t < kGroup; ++t) totals[t] += std::abs(weight[i] * x[i * kGroup + t]);
  }
  std::copy(totals, totals + kGroup, sums);
}

// body(i, row) for every i in [0, count) in parallel; row is `width` doubles to use. Everything is allocated
// here, so that nothing can throw inside a task.
template <class Body>
void parallel_rows(std::int64_t count, std::int64_t width, const Body& body) {
  struct Context {
    const Body& body;
    std::int64_t count, width, strips;
    std::vector<double> rows;
  };
  const std::int64_t strips = std::min<std::int64_t>(count, 64);
  Context context{body, count, width, strips, std::vector<double>(static_cast<std::size_t>(strips * width))};
  default_executor().parallel(
      static_cast<int>(strips),
      [](void* opaque, int strip) {
        Context& c = *static_cast<Context*>(opaque);
        const std::int64_t end = c.count * (strip + 1) / c.strips;
        for (std::int64_t i = c.count * strip / c.strips; i < end; ++i) {
          c.body(i, c.rows.data() + strip * c.width);
        }
      },
      &context);
}

}  // namespace

void reference_f64(const MlpSpec& spec, const MlpWeights& weights, const void* x, std::int64_t ldx, double* y,
                   double* magnitude, std::int64_t ldy, std::int64_t tokens) {
  if (ldx == 0) ldx = spec.d_in;
  if (ldy == 0) ldy = spec.d_out;
  const HiddenWeights up_and_gate = resolve(spec, weights);

  Grouped inputs(tokens, spec.d_in);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = 0; i < spec.d_in; ++i) {
      inputs.at(t, i) = static_cast<double>(load(spec.dtype, x, t * ldx + i));
    }
  }

  Grouped hidden(tokens, spec.d_hidden);
  parallel_rows(spec.d_hidden, 2 * spec.d_in, [&](std::int64_t h, double* row) {
    double* up_row = row;
    double* gate_row = row + spec.d_in;
    load_row(spec.dtype, up_and_gate.up, h, up_row);
    if (spec.gated) load_row(spec.dtype, up_and_gate.gate, h, gate_row);
    const double bias_up = element(spec.dtype, up_and_gate.bias_up, h);
    const double bias_gate = element(spec.dtype, up_and_gate.bias_gate, h);
    for (std::int64_t group = 0; group < inputs.groups; ++group) {
      double ups[kGroup];
      double gates[kGroup] = {};
      dot(up_row, inputs.group(group), spec.d_in, bias_up, ups);
      if (spec.gated) dot(gate_row, inputs.group(group), spec.d_in, bias_gate, gates);
      for (std::int64_t t = group * kGroup; t < std::min(tokens, (group + 1) * kGroup); ++t) {
        const std::int64_t lane = t % kGroup;
        hidden.at(t, h) = spec.gated ? gated(spec, gates[lane], ups[lane]) : activate(spec.activation, ups[lane]);
      }
    }
  });

  parallel_rows(spec.d_out, spec.d_hidden, [&](std::int64_t o, double* row) {
    load_row(spec.dtype, weights.down, o, row);
    const double bias = element(spec.dtype, weights.bias_down, o);
    for (std::int64_t group = 0; group < hidden.groups; ++group) {
      double sums[kGroup];
      double magnitudes[kGroup] = {};
      dot(row, hidden.group(group), spec.d_hidden, bias, sums);
      if (magnitude != nullptr) absolute_dot(row, hidden.group(group), spec.d_hidden, magnitudes);
      for (std::int64_t t = group * kGroup; t < std::min(tokens, (group + 1) * kGroup); ++t) {
        y[t * ldy + o] = sums[t % kGroup];
        if (magnitude != nullptr) magnitude[t * ldy + o] = magnitudes[t % kGroup];
      }
    }
  });
}

void reference_f64(const MlpSpec& spec, const MlpWeights& weights, const void* x, std::int64_t ldx, double* y,
                   std::int64_t ldy, std::int64_t tokens) {
  reference_f64(spec, weights, x, ldx, y, nullptr, ldy, tokens);
}

}  // namespace fusedmlp::core
