// A decoded kernel name in one line, for tables of expectations.
#pragma once

#include <string>

#include "trace/kernel_name.h"

// "nvjet gemm sm90 bf16 256x128x64 s4 c1x2 tnt cooperative bias": only what is known.
inline std::string signature(const fusedmlp::trace::KernelName& name) {
  using fusedmlp::trace::to_string;
  std::string out = std::string(to_string(name.family)) + " " + to_string(name.work);
  const auto add = [&out](const std::string& word) { out += " " + word; };
  if (name.sm) add("sm" + std::to_string(*name.sm));
  if (name.dtype) add(*name.dtype);
  if (name.tile_m) {
    std::string tile = std::to_string(*name.tile_m) + "x" + std::to_string(name.tile_n.value_or(-1));
    if (name.tile_k) tile += "x" + std::to_string(*name.tile_k);
    add(tile);
  }
  if (name.stages) add("s" + std::to_string(*name.stages));
  if (name.cluster_m) add("c" + std::to_string(*name.cluster_m) + "x" + std::to_string(name.cluster_n.value_or(-1)));
  if (name.layout) add(*name.layout);
  if (name.schedule) add(*name.schedule);
  if (name.split_k) add("splitk");
  if (name.grouped) add("grouped");
  if (name.backward) add("backward");
  if (name.fused_bias) add("bias");
  if (name.activation) add("act=" + *name.activation);
  if (name.multiplies) add("multiplies");
  std::string ops;
  for (const std::string& op : name.ops) ops += (ops.empty() ? "" : ",") + op;
  if (!ops.empty()) add("ops=" + ops);
  return out;
}
