// Equal instances into rows, and what a row's mean instance looks like.
#pragma once

#include <cstdint>
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

// zero: the trace's first device event, nanoseconds. Most time first.
std::vector<Row> make_rows(const Trace& trace, const std::vector<Instance>& instances, std::int64_t zero);

}  // namespace fusedmlp::trace
