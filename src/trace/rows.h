// Equal instances into rows, and what a row's mean instance looks like.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "fusedmlp/analysis.h"
#include "trace/match.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

// A row and the instances it stands for. The assessment (regime, verdict, prediction, breakdown) is not filled in.
struct Row {
  MlpRow row;
  std::vector<const Instance*> instances;
};

using Occupancy = std::function<std::optional<double>(const Event& kernel)>;

// zero: the trace's first device event, nanoseconds. Most time first.
std::vector<Row> make_rows(const Trace& trace, const std::vector<Instance>& instances, std::int64_t zero,
                           const Occupancy& occupancy);

}  // namespace fusedmlp::trace
