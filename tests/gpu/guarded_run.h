// One run on a GPU with every operand in guarded device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fusedmlp/fusedmlp.h"

namespace fusedmlp::test {

// Names of the first GPU's entries that can run the spec in its best layout; empty without a GPU.
std::vector<std::string> gpu_kernels(const MlpSpec& spec, std::int64_t tokens);

// y, dense, of one run through a Plan with a dirty workspace of exactly workspace_bytes(). The operands are copied
// from the host; each keeps its address modulo 256 and lies between poisoned bands, as y and the workspace do, and y
// has the row padding of x. A byte written elsewhere than in y and the workspace fails the test.
std::vector<std::byte> guarded_run(Device device, const MlpSpec& spec, const MlpWeights& weights, const void* x,
                                   std::int64_t ldx, std::int64_t tokens);

}  // namespace fusedmlp::test
