// Fills a node with what its op's arguments say: sizes, dtype, bias, which steps a scalar or a row makes of it.
#pragma once

#include <string_view>

#include "trace/node.h"

namespace fusedmlp::trace {

void read_arguments(const Trace& trace, const OpArgs& args, std::string_view name, const OpKind& kind, Node& node);

// The i-th text of a JSON list of texts; empty: not there.
std::string_view list_item(std::string_view list, int index);
Number number_of(std::string_view type);  // "c10::BFloat16", "float", and kernel dtypes "bf16", "tf32", ...

}  // namespace fusedmlp::trace
