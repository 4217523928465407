#include "trace/kernel_kind.h"

#include <initializer_list>

namespace fusedmlp::trace {
namespace {

bool is_any_of(std::string_view op, std::initializer_list<std::string_view> ops) {
  for (const std::string_view candidate : ops) {
    if (op == candidate) return true;
  }
  return false;
}

// Copies that pick rows route tokens to experts; those that join, look up or put back end a chain.
OpClass copy_class(const KernelName& decoded) {
  for (const std::string& op : decoded.ops) {
    if (is_any_of(op, {"index", "index_select"})) return OpClass::gather;
    if (!is_any_of(op, {"copy", "cast"})) return OpClass::boundary;
  }
  return OpClass::copy;
}

}  // namespace

KernelKind kernel_kind(std::string_view name) {
  KernelKind result;
  result.decoded = decode(name);
  const KernelName& decoded = result.decoded;
  OpKind& kind = result.kind;
  kind.op_class = OpClass::boundary;
  if (decoded.family == Family::inductor || decoded.family == Family::inductor_mm) {
    kind = generated_kind(decoded);
    kind.a = kind.b = -1;
    return result;
  }
  switch (decoded.work) {
    case Work::gemm:
    case Work::gemv:
    case Work::moe:
      result.experts = decoded.work == Work::moe;
      if (result.experts && !decoded.grouped) {
        kind.op_class = OpClass::gather;  // choice, sorting and sum of the experts
        return result;
      }
      kind.op_class = OpClass::gemm;
      if (decoded.activation && read_ops({*decoded.activation}, kind)) {
        kind.fused = true;
        kind.half = decoded.multiplies;
        if (decoded.multiplies) kind.steps |= bit(Step::multiply);
      }
      return result;
    case Work::splitk_reduce:
      kind.op_class = OpClass::copy;
      result.reduce = true;
      return result;
    case Work::mlp: kind.op_class = OpClass::whole; return result;
    case Work::copy: kind.op_class = copy_class(decoded); return result;
    case Work::elementwise: break;
    case Work::attention:
    case Work::reduce:
    case Work::unknown: return result;
  }
  if (decoded.backward || decoded.ops.empty() || !read_ops(decoded.ops, kind)) return result;
  kind.op_class = kind.steps == 0 ? OpClass::copy : OpClass::pointwise;
  if (decoded.multiplies && decoded.activation) {
    kind.fused = true;
    kind.half = decoded.family == Family::serving || kind.steps == bit(Step::glu);  // Liger's have two inputs
  }
  return result;
}

}  // namespace fusedmlp::trace
