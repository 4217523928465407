// The same computation without a Plan, for callers that own the packed copy themselves (a tensor of a
// framework, a mapped file). Stateless: every call names everything it uses.
#pragma once

#include <cstddef>

#include "fusedmlp/plan.h"

namespace fusedmlp {
inline namespace v0 {

// Bytes of the packed copy for this device as it is now (the layout depends on the instruction set); 0 where
// kernels read the caller's layout (GPUs).
std::size_t packed_bytes(const MlpSpec& spec, Device device = Device::cpu());

// Writes the packed copy to `packed`: packed_bytes() bytes, 64-byte aligned. executor null: default_executor().
Status pack(const MlpSpec& spec, const MlpWeights& weights, void* packed, Device device = Device::cpu(),
            Executor* executor = nullptr);

// What run() with the same arguments would do; args.workspace is not looked at.
struct Selection {
  const char* kernel = "";          // registry name; empty without tokens
  std::size_t workspace_bytes = 0;  // what it needs
  double seconds = 0;               // predicted
  // Predicted for a framework's own operations, a GEMM library's products and an activation kernel between them: what
  // a caller who has them may prefer. 0 on the CPU, where it is not modelled.
  double library_seconds = 0;
  // False where those are predicted to be faster, and to take long enough that issuing several costs nothing, and
  // where the kernel fuses nothing ("cuda.layers"); unless FUSEDMLP_KERNEL forces it. True on the CPU.
  bool pays = true;
};
Result<Selection> select(const MlpSpec& spec, const MlpWeights& weights, const void* packed, const RunArgs& args,
                         Device device = Device::cpu());

// Plan::run without a plan. `packed` comes from pack() on this machine, or is null: kernels then pack panels
// on the fly. Without args.workspace an arena of the calling thread serves on the CPU; a GPU needs it given.
Status run(const MlpSpec& spec, const MlpWeights& weights, const void* packed, const RunArgs& args,
           Device device = Device::cpu());

}  // namespace v0
}  // namespace fusedmlp
