// Analyses made by hand, for the tests of reports.
#pragma once

#include "fusedmlp/analysis.h"

namespace fusedmlp::test {

// What hostile names hold: markup, quotes, a terminal escape, bytes that are no UTF-8.
inline constexpr const char* kHostile = "<script>alert('&\"')</script>\033[31m\xff";

// One gated MLP in three kernels that is worth fusing.
inline Analysis geglu_analysis() {
  MlpRow row;
  row.kind = "geglu";
  row.gated = true;
  row.tokens = 4096;
  row.d_in = row.d_out = 768;
  row.d_hidden = 3072;
  row.dtype = "bf16";
  row.bias = false;
  row.instances = 12;
  row.launches_per_instance = 3;
  row.us_per_instance = 100;
  row.span_us_per_instance = 110;
  row.gap_us_per_instance = 10;
  row.confidence = 0.75;
  row.regime = Regime::compute;
  row.verdict = Verdict::fuse;
  row.predicted_us = 80;
  row.limit_us = 58.5;
  row.prediction_basis = "modelled";
  row.reason = "the hidden stays on the chip";
  row.breakdown.gemm_us = 70;
  row.breakdown.intermediate_us = 30;
  row.breakdown.launch_gap_us = 10;
  row.kernels.resize(3);
  row.kernels[0].name = "nvjet_gate_up";
  row.kernels[0].decoded = "cuBLAS nvjet";
  row.kernels[0].role = Role::gate_up;
  row.kernels[0].us = 45;
  row.kernels[0].occupancy = 0.125;
  for (int i = 0; i < 3; ++i) {
    row.kernels[0].grid[i] = i == 0 ? 132 : 1;
    row.kernels[0].block[i] = i == 0 ? 384 : 1;
  }
  row.kernels[1].name = "act_and_mul<silu, bf16>";
  row.kernels[1].role = Role::activation;
  row.kernels[1].start_us = 50;
  row.kernels[1].us = 30;
  row.kernels[1].gap_us = 5;
  row.kernels[2].name = "nvjet_down";
  row.kernels[2].role = Role::down;
  row.kernels[2].start_us = 85;
  row.kernels[2].us = 25;
  row.kernels[2].gap_us = 5;
  row.starts_us = {0, 200};

  Analysis out;
  out.path = "runs/geglu.json.gz";
  out.device = "NVIDIA H200";
  out.kernels = 60;
  out.memcpys = 1;
  out.memsets = 2;
  out.steps = 3;
  out.gpu_busy_us = 2400;
  out.gpu_span_us = 3000;
  out.mlp_us = 1200;
  out.predicted_saving_us = 240;
  out.breakdown.gemm_us = 840;
  out.breakdown.intermediate_us = 360;
  out.breakdown.launch_gap_us = 120;
  out.used = {"NVIDIA H200", 989e12, 4.8e12, "table", false};
  out.mlps = {row};
  out.totals = {{"nvjet_gate_up", "cuBLAS nvjet", 12, 540}, {"act_and_mul<silu, bf16>", "", 12, 360}};
  return out;
}

// One whose trace says next to nothing: no shapes, no device that is known.
inline Analysis bare_analysis() {
  MlpRow row;
  row.kind = "relu";
  row.instances = 1;
  row.launches_per_instance = 2.5;
  row.us_per_instance = 4;
  row.span_us_per_instance = 4;
  row.confidence = 0.25;
  row.prediction_basis = "unsupported";
  row.reason = "no kernel for this device";
  row.kernels.resize(1);
  row.kernels[0].name = "k";
  Analysis out;
  out.path = "bare.json";
  out.used.basis = "unknown";
  out.gpu_busy_us = 8;
  out.gpu_span_us = 8;
  out.mlp_us = 4;
  out.mlps = {row};
  return out;
}

// geglu_analysis() after fusing: one kernel.
inline Analysis fused_analysis() {
  Analysis out = geglu_analysis();
  out.path = "runs/fused.json.gz";
  MlpRow& row = out.mlps[0];
  row.launches_per_instance = 1;
  row.us_per_instance = row.span_us_per_instance = 55;
  row.gap_us_per_instance = 0;
  row.kernels.resize(1);
  row.kernels[0].name = "fusedmlp_gated";
  row.kernels[0].role = Role::other;
  row.kernels[0].us = 55;
  out.totals = {{"fusedmlp_gated", "", 12, 660}};
  return out;
}

// Every text of it hostile.
inline Analysis hostile_analysis() {
  Analysis out = geglu_analysis();
  out.path = kHostile;
  out.device = kHostile;
  out.warnings = {kHostile};
  out.used.name = out.used.basis = kHostile;
  MlpRow& row = out.mlps[0];
  row.kind = kHostile;
  row.dtype = kHostile;
  row.reason = kHostile;
  row.prediction_basis = kHostile;
  for (MlpKernel& kernel : row.kernels) kernel.name = kernel.decoded = kHostile;
  for (NameTotal& total : out.totals) total.name = total.decoded = kHostile;
  return out;
}

}  // namespace fusedmlp::test
