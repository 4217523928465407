// One run, shared by Plan and the stateless API: check the arguments, choose the kernel, call it.
#pragma once

#include <cstddef>

#include "core/dispatch.h"
#include "core/kernel.h"

namespace fusedmlp::core {

// Arguments checked and completed. choice.entry == nullptr: nothing to do (no tokens).
struct Prepared {
  Choice choice;
  const DeviceInfo* device = nullptr;  // what the entry is to be run with: the device, or a partition of it
  int threads = 1;                     // of the executor when the workspace was sized
  RunArgs args;                        // ldx, ldy and executor are set; the workspace only if the caller gave one
};

// Ok, or which argument is wrong. Everything but the workspace, whose least size depends on the kernel.
// packed_bytes: extent of problem.packed, which y and the workspace must not overlap.
Status validate(const Problem& problem, std::size_t packed_bytes, const RunArgs& args);

Result<Prepared> prepare(const Problem& problem, std::size_t packed_bytes, const RunArgs& args,
                         const DeviceInfo& device);

// Calls the chosen kernel, which sees the executor with `threads` whatever that says by now.
Status run(const Problem& problem, const Prepared& prepared);

// default_executor()'s concurrency on the CPU, 1 on a GPU.
int threads_of(const DeviceInfo& device);

// Workspace that any choice of kernel needs for up to `threads` threads.
std::size_t workspace_bytes(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads,
                            bool packed);

// The text of Plan::explain.
Result<std::string> explain(const Query& query);

}  // namespace fusedmlp::core
