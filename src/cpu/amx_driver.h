// What both AMX drivers share: a run's weights and biases, the walk over panels, and the blocking.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/amx_kernels.h"
#include "cpu/panels.h"
#include "cpu/scratch.h"

namespace fusedmlp::cpu {

inline constexpr int kAmxLanes = 16;  // of the panels, as every kernel of AVX-512 has them

// Extents of one round of the two products; all but `rows` in what a TLB page or a cache holds, so figures of the
// CPU.
struct AmxBlocking {
  std::int64_t rows;    // most rows of a block; a multiple of 32
  std::int64_t hidden;  // hidden units computed before they are multiplied on; a multiple of 32
  std::int64_t down_k;  // hidden units of one slice of the down projection; a multiple of 32
  std::int64_t up_k;    // elements of one slice of x; a multiple of 32
};

// Slices of x: where a panel is much longer than L1 they keep what the next pair of rows needs of it there. GeGLU
// 4096x8192 at 256 tokens took 11 % less time with 512, SwiGLU 2048x5632 at 1024 tokens 3 %; 768 is better whole.
inline std::int64_t amx_up_k(const MlpSpec& spec) { return spec.d_in > 1024 ? 512 : 1024; }

// What a run works with, resolved once.
struct AmxJob {
  AmxJob(const core::Problem& problem, const AmxKernels& table);

  static std::int64_t bias_floats(const PackedShape& shape) {
    return (shape.hidden_panels + shape.down_panels) * kPanelWidth;
  }
  // Biases from the packed copy, or made in `scratch` (bias_floats() floats).
  void set_biases(const core::Problem& problem, float* scratch);

  const AmxKernels& kernels;
  const MlpSpec& spec;
  PackedShape shape;
  core::HiddenWeights hidden_weights;
  PanelSource hidden;
  PanelSource down;
  const float* hidden_bias = nullptr;  // [hidden_panels][32]
  const float* down_bias = nullptr;    // [down_panels][32]
};

// What a thread needs beside the rows.
struct AmxScratch {
  AmxScratch(Scratch& scratch, const core::Query& query, std::int64_t slice_k)
      : block(scratch.floats(kBlockFloats)),
        last(scratch.bytes(kStepBytes)),
        slice(query.packed ? nullptr : scratch.bytes(panel_bytes(DType::bf16, slice_k, kAmxLanes))) {}

  float* block;
  std::byte* last;   // the incomplete last step of a slice
  std::byte* slice;  // of weights that are not packed
};

// The calling thread's tile registers, for blocks of `rows` rows.
class AmxTileScope {
 public:
  AmxTileScope(const AmxKernels& kernels, std::int64_t rows) : kernels_(kernels) {
    kernels.configure(std::min(rows, kTileHeight));
  }
  ~AmxTileScope() { kernels_.release(); }
  AmxTileScope(const AmxTileScope&) = delete;
  AmxTileScope& operator=(const AmxTileScope&) = delete;

 private:
  const AmxKernels& kernels_;
};

// Row tiles [begin, end) of bf16 rows [rows, k], `row_bytes` apart, into a strip.
void pack_strip(const std::byte* x, std::int64_t row_bytes, std::int64_t k, const AmxStrip& strip, std::int64_t begin,
                std::int64_t end);

// Hidden panels [begin, end) for the rows of `x`, in slices of `up_k`, into `hidden`, whose first column is hidden
// unit `first_unit`. `begin` is even when gated. `sums`: blocks of products, [pairs] of them; null where one slice is
// all of x. `ahead`: weights that are used next, null for none.
struct AmxUp {
  std::int64_t up_k;
  std::int64_t first_unit;
  float* sums;
};
void hidden_panels(const AmxJob& job, const AmxStrip& x, std::int64_t begin, std::int64_t end, const AmxStrip& hidden,
                   const AmxUp& up, const std::byte* ahead, const AmxScratch& own);

// Down panels [begin, end) over hidden units [h0, h1), which are columns of `hidden`, in slices of `down_k`. `sums`:
// null where one slice is all of the hidden; else blocks of products, [pairs] of them for every panel of these when
// `sums_per_panel`, which [h0, h1) short of the whole needs.
struct AmxDown {
  std::int64_t h0, h1, down_k;
  std::int64_t first_unit;  // the hidden unit of the first column of `hidden`
  float* sums;
  bool sums_per_panel;
  std::byte* y;  // element [0, 0]
  std::int64_t row_bytes;
};
void down_panels(const AmxJob& job, const AmxStrip& hidden, std::int64_t begin, std::int64_t end, const AmxDown& down,
                 const std::byte* ahead, const AmxScratch& own);

// cpu.amx_rows and cpu.amx_columns with any kernels and blocking, as tests run them.
void run_amx_rows(const AmxKernels& kernels, const AmxBlocking& blocking, const core::Query& query,
                  const core::Problem& problem, const RunArgs& args);
std::size_t amx_rows_bytes(const AmxBlocking& blocking, const core::Query& query);
void run_amx_columns(const AmxKernels& kernels, const AmxBlocking& blocking, const core::Query& query,
                     const core::Problem& problem, const RunArgs& args);
std::size_t amx_columns_bytes(const AmxBlocking& blocking, const core::Query& query);

// Empty, or why the AMX kernels cannot run this; the same of those by AVX512-BF16.
std::string unsupported_amx(const core::Query& query);
std::string unsupported_dot(const core::Query& query);

// Share of the rate that whole MLPs reach, on two cores of a 2.1 GHz Xeon with 2 MiB of L2: AMX 57 to 65 % of 4.7
// TFLOP/s (SwiGLU, GeGLU and GELU at 1024 tokens, the best of repeated runs on a shared host), AVX512-BF16 94 % of
// 172 GFLOP/s.
inline constexpr double kAmxEfficiency = 0.62;
inline constexpr double kDotEfficiency = 0.92;

// Each of `threads` threads computes `rows` rows of the MLP, or that share of the columns of more rows. All of them
// together read the weights `reads` times and wait for each other `joins` times, at the end of a parallel region or
// within it: 64x256 at 64 tokens took 12.2 us by columns, in one region, and 7.6 by rows.
core::Prediction amx_prediction(const core::Query& query, double efficiency, int threads, double rows, double reads,
                                int joins);

}  // namespace fusedmlp::cpu
