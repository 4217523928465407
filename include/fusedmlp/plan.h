// Plan: an MLP made ready to run on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/status.h"
#include "fusedmlp/weights.h"

namespace fusedmlp {
inline namespace v0 {

// Runs tasks on threads. The library has one of its own (a pool as large as the process's CPU set, or
// FUSEDMLP_NUM_THREADS); a caller with a pool hands in an adapter, so that two pools never fight.
class Executor {
 public:
  virtual ~Executor() = default;
  // How many tasks may run at once (>= 1).
  virtual int concurrency() const noexcept = 0;
  // Calls task(context, i) once for each i in [0, count), in any order, on any threads; returns when all have
  // returned. Tasks never wait for each other, so running them one after another is legal.
  virtual void parallel(int count, void (*task)(void* context, int index), void* context) = 0;
};

// The library's own executor, made at first use. Calls from several threads at once are legal.
Executor& default_executor();

struct RunArgs {
  const void* x = nullptr;  // [tokens, d_in], rows dense, row stride ldx
  std::int64_t ldx = 0;     // elements; 0 means d_in
  void* y = nullptr;        // [tokens, d_out], must not overlap x, weights or workspace
  std::int64_t ldy = 0;     // elements; 0 means d_out
  std::int64_t tokens = 0;  // >= 0; with 0 nothing is touched
  void* stream = nullptr;   // cudaStream_t on a GPU; ignored on the CPU
  // At least workspace_bytes(tokens), 64-byte aligned, any contents. Null: the plan's own arena, which grows when
  // it must; on a GPU there is one for each stream and capture, and what a capture used stays until the plan goes.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  Executor* executor = nullptr;  // CPU; null: default_executor()
};

struct PlanOptions {
  // Keep a packed copy of the weights (packed_bytes()). Without it kernels pack panels on the fly: no memory
  // beyond the workspace, slower at few tokens.
  bool pack = true;
};

// Borrows the caller's weights, which must outlive it; owns packed copies only. run() may be called from
// many threads at once; update_weights() and destruction may not overlap with run().
class Plan {
 public:
  static Result<Plan> create(const MlpSpec& spec, const MlpWeights& weights, Device device = Device::cpu(),
                             const PlanOptions& options = {});

  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;
  ~Plan();

  // y = mlp(x), dense rows, any number of tokens. Same input, machine, kernel and thread count: same bits.
  // On a GPU the work is queued on args.stream (null: the legacy default stream) and the call returns; nothing
  // waits for the device, and with a workspace given nothing is allocated, so that a stream may be captured.
  Status run(const void* x, void* y, std::int64_t tokens) const;
  Status run(const RunArgs& args) const;

  // After the caller changed the weights in place, or moved them (same spec).
  Status update_weights(const MlpWeights& weights);

  // On the CPU for default_executor()'s concurrency or fewer; on a GPU for any alignment of x and y.
  std::size_t workspace_bytes(std::int64_t tokens) const;
  std::size_t packed_bytes() const;
  const MlpSpec& spec() const;
  Device device() const;

  // Every registry entry for this device: predicted time, taken or why not.
  std::string explain(std::int64_t tokens) const;

 private:
  struct Impl;
  explicit Plan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The same text without weights: what a plan of this spec would do.
Result<std::string> explain(const MlpSpec& spec, std::int64_t tokens, Device device = Device::cpu());

const char* version() noexcept;  // "0.1.0"

}  // namespace v0
}  // namespace fusedmlp
