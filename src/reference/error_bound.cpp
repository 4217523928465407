#include "reference/error_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/activation.h"
#include "core/numeric.h"
#include "core/weight_rows.h"

namespace fusedmlp::core {
namespace {

constexpr double kUnit = 0x1p-24;  // of fp32, in which every product is accumulated

double gamma(std::int64_t roundings) {
  const double n = static_cast<double>(roundings) * kUnit;
  return n / (1 - n);
}

// Half the distance between the smallest stored numbers: what underflow of a stored value may cost. fp32 and bf16
// share an exponent range; hardware bf16 products flush subnormals, hence the smallest normal there.
double underflow(DType dtype) { return dtype == DType::f16 ? 0x1p-25 : 0x1p-126; }

// A matrix as dense doubles, so that the loops below run at full speed.
std::vector<double> dense(DType dtype, const MatrixView& m) {
  std::vector<double> out(static_cast<std::size_t>(m.rows * m.cols));
  for (std::int64_t r = 0; r < m.rows; ++r) {
    for (std::int64_t c = 0; c < m.cols; ++c) {
      out[static_cast<std::size_t>(r * m.cols + c)] =
          static_cast<double>(load(dtype, m.data, r * m.row_stride + c * m.col_stride));
    }
  }
  return out;
}

std::vector<double> dense(DType dtype, const VectorView& v, std::int64_t size) {
  std::vector<double> out(static_cast<std::size_t>(size));
  if (v.data == nullptr) return out;
  for (std::int64_t i = 0; i < size; ++i) {
    out[static_cast<std::size_t>(i)] = static_cast<double>(load(dtype, v.data, i * v.stride));
  }
  return out;
}

// A value and what a correct kernel's may differ from it.
struct Interval {
  double value;
  double error;
};

// One output of a linear layer. `x_error` may be null: the input is exact.
Interval dot(const double* x, const double* x_error, const double* w, double bias, std::int64_t n) {
  double sum = 0, magnitude = 0, carried = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    sum += x[i] * w[i];
    magnitude += std::abs(x[i] * w[i]);
  }
  if (x_error != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) carried += std::abs(w[i]) * x_error[i];
  }
  // Two roundings beyond the n of products and sums: the bias, and a partial sum joined from elsewhere.
  return {sum + bias, carried + gamma(n + 2) * (magnitude + carried + std::abs(bias))};
}

class Bound {
 public:
  Bound(const MlpSpec& spec, Roundings roundings)
      : spec_(spec), layers_(roundings == Roundings::layer_by_layer), storage_(epsilon(spec.dtype) / 2) {}

  Interval stored(Interval v) const {
    return {v.value, v.error + storage_ * (std::abs(v.value) + v.error) + underflow(spec_.dtype)};
  }
  Interval between_layers(Interval v) const { return layers_ ? stored(v) : v; }

  Interval activate(Interval z) const {
    const double f = core::activate(spec_.activation, z.value);
    return between_layers({f, slope(z) * z.error + fast(f, z)});
  }

  // h = f(gate) up
  Interval gated(Interval gate, Interval up) const {
    if (spec_.activation != Activation::swiglu_oai) return product(activate(gate), up);
    const double limit = static_cast<double>(spec_.limit);
    const double g = gate.value > limit ? limit : gate.value;
    const double u = up.value > limit ? limit : (up.value < -limit ? -limit : up.value);
    const double f = g * sigmoid(static_cast<double>(spec_.alpha) * g);
    // Clamping never widens an interval.
    const Interval left = between_layers({f, kSmoothSlope * gate.error + fast(f, {g, gate.error})});
    const Interval right = between_layers({u + 1, up.error + kUnit * (std::abs(u + 1) + up.error)});
    return product(left, right);
  }

 private:
  static constexpr double kSmoothSlope = 1.13;  // sup |f'|: gelu 1.1290, gelu_tanh 1.1291, x sigmoid(a x) 1.0999

  static Interval product(Interval a, Interval b) {
    const double value = a.value * b.value;
    const double error = a.error * std::abs(b.value) + std::abs(a.value) * b.error + a.error * b.error;
    return {value, error + kUnit * (std::abs(value) + error)};
  }

  double slope(Interval z) const {
    switch (spec_.activation) {
      case Activation::identity:
      case Activation::relu: return 1;
      case Activation::relu2: return 2 * (std::abs(z.value) + z.error);
      case Activation::sigmoid: return 0.25;
      default: return kSmoothSlope;
    }
  }

  double fast(double f, Interval z) const {
    switch (spec_.activation) {
      case Activation::identity:
      case Activation::relu: return 0;
      case Activation::relu2: return kUnit * f;
      default: break;
    }
    const double size = std::abs(z.value) + z.error;
    return epsilon(DType::f32) * std::max(std::abs(f) + slope(z) * z.error, kFastFormK * size);
  }

  const MlpSpec& spec_;
  bool layers_;
  double storage_;
};

}  // namespace

Truth truth_with_bound(const MlpSpec& spec, const MlpWeights& weights, const void* x, std::int64_t ldx,
                       std::int64_t tokens, Roundings roundings) {
  if (ldx == 0) ldx = spec.d_in;
  const DType t = spec.dtype;
  const HiddenWeights hidden_weights = resolve(spec, weights);
  const std::vector<double> gate = spec.gated ? dense(t, hidden_weights.gate) : std::vector<double>();
  const std::vector<double> up = dense(t, hidden_weights.up);
  const std::vector<double> down = dense(t, weights.down);
  const std::vector<double> bias_gate = dense(t, hidden_weights.bias_gate, spec.d_hidden);
  const std::vector<double> bias_up = dense(t, hidden_weights.bias_up, spec.d_hidden);
  const std::vector<double> bias_down = dense(t, weights.bias_down, spec.d_out);
  const Bound bound(spec, roundings);

  Truth out;
  out.y.resize(static_cast<std::size_t>(tokens * spec.d_out));
  out.bound.resize(out.y.size());
  std::vector<double> row(static_cast<std::size_t>(spec.d_in));
  std::vector<double> h(static_cast<std::size_t>(spec.d_hidden)), h_error(h.size());
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t i = 0; i < spec.d_in; ++i) {
      row[static_cast<std::size_t>(i)] = static_cast<double>(load(t, x, token * ldx + i));
    }
    for (std::int64_t j = 0; j < spec.d_hidden; ++j) {
      const auto at = static_cast<std::size_t>(j);
      const std::int64_t offset = j * spec.d_in;
      const Interval u = bound.between_layers(dot(row.data(), nullptr, up.data() + offset, bias_up[at], spec.d_in));
      Interval value;
      if (spec.gated) {
        const Interval g =
            bound.between_layers(dot(row.data(), nullptr, gate.data() + offset, bias_gate[at], spec.d_in));
        value = bound.gated(g, u);
      } else {
        value = bound.activate(u);
      }
      value = bound.stored(value);
      h[at] = value.value;
      h_error[at] = value.error;
    }
    for (std::int64_t o = 0; o < spec.d_out; ++o) {
      const auto at = static_cast<std::size_t>(token * spec.d_out + o);
      const Interval y = bound.stored(dot(h.data(), h_error.data(), down.data() + o * spec.d_hidden,
                                          bias_down[static_cast<std::size_t>(o)], spec.d_hidden));
      out.y[at] = y.value;
      out.bound[at] = std::isfinite(y.value) ? y.error : std::numeric_limits<double>::infinity();
    }
  }
  return out;
}

Deviation compare(const Truth& truth, const MlpSpec& spec, const void* y, std::int64_t ldy, std::int64_t tokens) {
  if (ldy == 0) ldy = spec.d_out;
  Deviation out;
  double difference = 0, size = 0;
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t o = 0; o < spec.d_out; ++o) {
      const std::int64_t at = token * spec.d_out + o;
      const double want = truth.y[static_cast<std::size_t>(at)];
      const double got = static_cast<double>(load(spec.dtype, y, token * ldy + o));
      if (!std::isfinite(want) || !std::isfinite(got)) {
        const bool same = std::isnan(want) ? std::isnan(got) : want == got;
        if (!same && out.kind_errors++ == 0) out.first_kind_error = at;
        continue;
      }
      const double error = std::abs(got - want);
      difference += error * error;
      size += want * want;
      const double ratio = error == 0 ? 0 : error / truth.bound[static_cast<std::size_t>(at)];
      if (ratio > out.worst_ratio || out.worst < 0) {
        out.worst_ratio = ratio;
        out.worst = at;
      }
    }
  }
  if (difference > 0) out.norm = std::sqrt(difference / size);
  return out;
}

double norm_limit(const MlpSpec& spec, std::int64_t tokens, double reference_norm) {
  constexpr std::int64_t kLeastValues = 64;
  if (tokens * std::min(spec.d_hidden, spec.d_out) < kLeastValues) return std::numeric_limits<double>::infinity();
  return 2 * reference_norm + epsilon(spec.dtype);
}

}  // namespace fusedmlp::core
