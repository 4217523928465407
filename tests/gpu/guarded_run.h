// One run on a GPU with every operand in guarded device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "numerics/problem.h"

namespace fusedmlp::test {

// Names of the first GPU's entries that can run the spec in the given layout, by default the best; empty without a
// GPU.
std::vector<std::string> gpu_kernels(const MlpSpec& spec, std::int64_t tokens,
                                     const core::OperandLayout& operands = {});

// y, dense, of one run through a Plan with a dirty workspace of exactly workspace_bytes(). The operands are copied
// from the host; each keeps its address modulo 256 and lies between poisoned bands, as y and the workspace do, and y
// has its row stride there. A byte written elsewhere than in y and the workspace fails the test.
std::vector<std::byte> guarded_run(Device device, const MlpSpec& spec, const Placed& placed, std::int64_t tokens);

}  // namespace fusedmlp::test
