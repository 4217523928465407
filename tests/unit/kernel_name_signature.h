// A decoded kernel name in one line, for tables of expectations.
#pragma once

#include <string>

#include "core/format.h"
#include "trace/kernel_name.h"

// "nvjet gemm sm90 bf16 256x128x64 s4 c1x2 tnt cooperative bias": only what is known.
inline std::string signature(const fusedmlp::trace::KernelName& name) {
  using fusedmlp::core::format;
  std::string out = format("{} {}", to_string(name.family), to_string(name.work));
  const auto add = [&out](const std::string& word) { out += format(" {}", word); };
  if (name.sm) add(format("sm{}", *name.sm));
  if (name.dtype) add(*name.dtype);
  if (name.tile_m && name.tile_k) {
    add(format("{}x{}x{}", *name.tile_m, name.tile_n.value_or(-1), *name.tile_k));
  } else if (name.tile_m) {
    add(format("{}x{}", *name.tile_m, name.tile_n.value_or(-1)));
  }
  if (name.stages) add(format("s{}", *name.stages));
  if (name.cluster_m) add(format("c{}x{}", *name.cluster_m, name.cluster_n.value_or(-1)));
  if (name.layout) add(*name.layout);
  if (name.schedule) add(*name.schedule);
  if (name.split_k) add("splitk");
  if (name.grouped) add("grouped");
  if (name.backward) add("backward");
  if (name.fused_bias) add("bias");
  if (name.activation) add(format("act={}", *name.activation));
  if (name.multiplies) add("multiplies");
  std::string ops;
  for (const std::string& op : name.ops) {
    ops += ops.empty() ? "" : ",";
    ops += op;
  }
  if (!ops.empty()) add(format("ops={}", ops));
  return out;
}
