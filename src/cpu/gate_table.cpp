#include "cpu/gate_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/activation.h"

namespace fusedmlp::cpu {
namespace {

// Widths of a piece at which what is cut off beyond the last one and the error of the pieces are about equal.
constexpr double kNormalWidth = 0.16;
constexpr double kLogisticWidth = 0.45;

double width(Activation activation) {
  switch (activation) {
    case Activation::gelu:
    case Activation::gelu_tanh: return kNormalWidth;
    case Activation::quick_gelu: return kLogisticWidth / core::kQuickGeluSlope;
    default: return kLogisticWidth;
  }
}

double q(Activation activation, double a) {
  const bool logistic = activation == Activation::sigmoid || activation == Activation::swiglu_oai;
  return (logistic ? core::sigmoid(a) : core::activate(activation, a) / a) - 0.5;
}

// The cubic through q at the Chebyshev nodes of [begin, end], as coefficients of powers of a.
std::array<double, kGateTerms> cubic(Activation activation, double begin, double end) {
  std::array<double, kGateTerms> node{}, difference{};
  for (int i = 0; i < kGateTerms; ++i) {
    const double angle = std::numbers::pi * (2 * i + 1) / (2 * kGateTerms);
    node[i] = 0.5 * (begin + end) + 0.5 * (end - begin) * std::cos(angle);
    difference[i] = q(activation, node[i]);
  }
  for (int order = 1; order < kGateTerms; ++order) {  // Newton's divided differences
    for (int i = kGateTerms - 1; i >= order; --i) {
      difference[i] = (difference[i] - difference[i - 1]) / (node[i] - node[i - order]);
    }
  }
  std::array<double, kGateTerms> out{};
  for (int term = kGateTerms - 1; term >= 0; --term) {  // out = out (a - node) + difference
    for (int i = kGateTerms - 1; i > 0; --i) out[i] = out[i - 1] - node[term] * out[i];
    out[0] = difference[term] - node[term] * out[0];
  }
  return out;
}

GateTable make(Activation activation) {
  GateTable table{};
  const double w = width(activation);
  table.scale = static_cast<float>(1 / w);
  table.limit = static_cast<float>((kGatePieces - 1) * w);
  for (int j = 0; j + 1 < kGatePieces; ++j) {
    const std::array<double, kGateTerms> c = cubic(activation, std::max(0.0, (j - 0.5) * w), (j + 0.5) * w);
    for (int i = 0; i < kGateTerms; ++i) table.c[i][j] = static_cast<float>(c[i]);
  }
  table.c[0][kGatePieces - 1] = 0.5f;
  return table;
}

}  // namespace

const GateTable& gate_table(Activation activation) {
  static const std::array<GateTable, kActivationCount> all = [] {
    std::array<GateTable, kActivationCount> tables{};
    for (const Activation a : {Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu, Activation::silu,
                               Activation::sigmoid, Activation::swiglu_oai}) {
      tables[static_cast<std::size_t>(a)] = make(a);
    }
    return tables;
  }();
  return all[static_cast<std::size_t>(activation)];
}

}  // namespace fusedmlp::cpu
