// An MLP, or a layer of experts, that is one op: this library's own, and the serving engines' fused experts.
#pragma once

#include <optional>

#include "trace/instances.h"

namespace fusedmlp::trace {

// Empty where the op does not say what it computes.
std::optional<Instance> whole_op(const Trace& trace, const Nodes& nodes, const Node& node, Instances& instances);

}  // namespace fusedmlp::trace
