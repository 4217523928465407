// What a device event that no op claims is to the matcher, told by its decoded name.
#pragma once

#include <string_view>

#include "trace/kernel_name.h"
#include "trace/op_kind.h"

namespace fusedmlp::trace {

struct KernelKind {
  OpKind kind;
  bool experts = false;  // a product over experts
  bool reduce = false;   // ends a split-K product
  KernelName decoded;
};

KernelKind kernel_kind(std::string_view name);

}  // namespace fusedmlp::trace
