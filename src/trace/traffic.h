// Arithmetic and memory traffic of a row's mean instance.
#pragma once

#include <optional>

#include "core/gpu_model.h"
#include "fusedmlp/analysis.h"
#include "trace/match.h"

namespace fusedmlp::trace {

// The row as a spec; empty where widths or dtype are not known. An activation that no spec names counts as identity:
// products and traffic are the same.
std::optional<MlpSpec> spec_of(const MlpRow& row);
bool activation_known(const MlpRow& row);  // to the spec grammar

// Fused, at the least: weights, x and y once. For experts the rows that are routed, and the experts that uniform
// routing is expected to reach: E (1 - (1 - k / E)^tokens). Backward: both products twice, weights read and their
// gradients written, x and dy read, dx written. Empty where the row lacks a number.
std::optional<core::GpuWork> fused_work(const MlpRow& row);

// The same arithmetic with the traffic of the kernels that ran: every product writes its result and every pass over
// the hidden reads and writes it. Backward and experts: as fused_work.
std::optional<core::GpuWork> traced_work(const MlpRow& row, const Instance& instance);

}  // namespace fusedmlp::trace
