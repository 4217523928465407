// Reading a profiler trace: which MLPs are in it, what each costs and why, and what fusing would save.
//
// Times are microseconds, sizes bytes, rates a second. What a trace does not say is an empty optional, never a guess.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/status.h"

namespace fusedmlp {
inline namespace v0 {

struct AnalyzeOptions {
  std::string target;             // a GPU of the table ("H100"), to predict for; empty: the trace's own device
  double peak_flops = 0;          // FLOP/s of the MLP's dtype; 0: from the table
  double peak_bandwidth = 0;      // bytes/s; 0: from the table
  bool python_functions = false;  // keep python_function events
  // Called now and then while reading; total is the file's size (compressed, where it is). May be empty.
  std::function<void(std::uint64_t read, std::uint64_t total)> progress;
};

enum class Phase : std::uint8_t { forward, backward };
enum class Regime : std::uint8_t { overhead, memory, compute };
enum class Verdict : std::uint8_t { fuse, do_not_fuse };

const char* to_string(Phase phase) noexcept;
const char* to_string(Regime regime) noexcept;
const char* to_string(Verdict verdict) noexcept;  // "fuse", "do-not-fuse"

// What a kernel does in its MLP.
enum class Role : std::uint8_t { gate, up, gate_up, activation, multiply, down, bias, cast, reduce, routing, other };
const char* to_string(Role role) noexcept;

// One kernel (on a CPU-only trace: one op) of an MLP, averaged over the instances of its row.
struct MlpKernel {
  std::string name;     // as in the trace
  std::string decoded;  // in words; empty: name not known
  Role role = Role::other;
  double start_us = 0;  // from the first kernel of the instance
  double us = 0;
  double gap_us = 0;                // idle time before it, within the instance
  std::optional<double> occupancy;  // share of the SM's warps, 0 to 1
  std::optional<std::int64_t> grid[3];
  std::optional<std::int64_t> block[3];
};

// Where an MLP's span goes. Parts of a mean instance; they sum up to its span.
struct Breakdown {
  double gemm_us = 0;          // matrix products
  double intermediate_us = 0;  // activation, multiply, bias, cast: passes that only move the hidden
  double other_us = 0;
  double launch_gap_us = 0;  // the GPU waits for the host's launches
  double sync_gap_us = 0;
  double warmup_gap_us = 0;  // first call: module load, allocation, profiler start
  double other_gap_us = 0;
};

// One MLP: the same kind, widths, dtype, bias, tokens and phase over layers and steps.
struct MlpRow {
  std::string kind;  // form_name(): "gelu", "geglu", "swiglu", ...
  bool gated = false;
  std::optional<std::int64_t> tokens, d_in, d_hidden, d_out;
  std::optional<std::string> dtype;  // "bf16", "fp16", "fp32", "tf32"
  std::optional<bool> bias;
  Phase phase = Phase::forward;
  std::int64_t instances = 0;
  double launches_per_instance = 0;
  double us_per_instance = 0;       // mean sum of kernel times
  double span_us_per_instance = 0;  // mean first start to last end
  double gap_us_per_instance = 0;   // mean of the span that no kernel covers
  std::optional<std::int64_t> experts, top_k;
  double confidence = 0;         // 0 to 1
  std::optional<Regime> regime;  // empty: device's rates unknown
  Verdict verdict = Verdict::do_not_fuse;
  std::optional<double> baseline_us;   // what predicted_us is compared with: kernels, or the span if overhead-bound
  std::optional<double> predicted_us;  // an instance, fused
  std::optional<double> hypothetical_us;  // where no kernel supports the device: what one would take
  std::optional<double> limit_us;         // physical limit of an instance
  std::string prediction_basis;           // "measured", "modelled", "unsupported"
  std::string reason;                     // of the verdict, one sentence
  Breakdown breakdown;
  std::vector<MlpKernel> kernels;  // in order of the mean start
  std::vector<double> starts_us;   // of each instance, from the trace's first device event
};

// All device events of one name (on a CPU-only trace: all ops of one name that call no other).
struct NameTotal {
  std::string name;     // as in the trace
  std::string decoded;  // in words; empty: name not known
  std::int64_t count = 0;
  double us = 0;  // sum of durations
};

// A known or estimated device, as the analysis used it.
struct AnalyzedDevice {
  std::string name;
  std::optional<double> peak_flops;      // dense bf16, FLOP/s
  std::optional<double> peak_bandwidth;  // bytes/s
  std::string basis;                     // "table", "estimated from ...", "given", "unknown"
  bool target = false;  // asked for: limits and predictions are of another device than the one traced
};

struct Analysis {
  std::string path;
  std::optional<std::string> device;  // of the trace; empty on a CPU-only trace
  std::int64_t kernels = 0, memcpys = 0, memsets = 0;
  std::optional<std::int64_t> steps;
  std::vector<std::string> warnings;
  double gpu_busy_us = 0;  // union of device events
  double gpu_span_us = 0;  // first start to last end
  double mlp_us = 0;
  double predicted_saving_us = 0;  // instances x saving over the `fuse` rows
  Breakdown breakdown;             // of all MLPs, summed over instances
  AnalyzedDevice used;
  std::vector<MlpRow> mlps;       // most time first
  std::vector<NameTotal> totals;  // the whole trace by name, most time first
};

// Reads .json or .json.gz. A damaged or cut file gives what was read and a warning; what is no trace is a Status.
Result<Analysis> analyze(const std::string& path, const AnalyzeOptions& options = {});

// Two traces of the same model. Rows of both are matched by kind, widths, tokens and phase.
struct ComparedMlp {
  std::optional<MlpRow> a, b;
  std::string change;  // one sentence
};

struct KernelChange {
  std::string name;
  std::int64_t count_a = 0, count_b = 0;
  double us_a = 0, us_b = 0;  // sums
};

struct Comparison {
  Analysis a, b;
  std::vector<ComparedMlp> mlps;
  std::vector<KernelChange> kernels;  // those whose count or time differ, largest difference first
};

Comparison compare(Analysis a, Analysis b);
Result<Comparison> compare(const std::string& path_a, const std::string& path_b, const AnalyzeOptions& options = {});

// What a kernel's name says, in words; code `unsupported` when the name is not known.
Result<std::string> explain_kernel(std::string_view name);

}  // namespace v0
}  // namespace fusedmlp
