// Figures that a report derives from a row: totals, savings, arithmetic and bytes from its widths.
#pragma once

#include <optional>
#include <vector>

#include "fusedmlp/analysis.h"

namespace fusedmlp::report {

// What an instance takes now, in the terms of its prediction: the span where the GPU waits for launches, else the
// sum of its kernels. Microseconds.
double now_us(const MlpRow& row);

// Whether a GPU ran it; a trace need not name that one.
bool on_gpu(const Analysis& analysis);

// Of all instances.
double total_us(const MlpRow& row);

// now - predicted over all instances; empty without a prediction, and for another device than the traced one.
// Negative: fused is slower.
std::optional<double> saving_us(const Analysis& analysis, const MlpRow& row);

// Arithmetic of an instance: 2 a multiply-add of every product; twice that in the backward pass, where each product
// has a gradient for its input and one for its weights. With experts, every token visits top_k of them.
std::optional<double> flops(const MlpRow& row);

// Weights and x read once, y written once; of a forward pass. Biases are left out.
std::optional<double> least_bytes(const MlpRow& row);

// Bytes that the row's kernels move between them: each reads its operands and writes its result once, told by its
// role. Modelled from shapes; of a forward pass without experts.
std::optional<double> modelled_bytes(const MlpRow& row);

// How many times faster b is: spans of an instance, idle time included. Empty where one is missing or took no time.
std::optional<double> speedup(const ComparedMlp& pair);

struct Slice {
  const char* key;    // for style sheets and JSON: "gemm", "intermediate", ...
  const char* label;  // for people
  double us;
  bool gap;  // no kernel runs
};

// The parts of a breakdown in a fixed order, zero parts included.
std::vector<Slice> slices(const Breakdown& breakdown);
double sum_us(const Breakdown& breakdown);

}  // namespace fusedmlp::report
