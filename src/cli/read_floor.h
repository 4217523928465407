// The time that reading a layer's packed weights takes by itself, as an entry that is timed among the kernels.
#pragma once

#include "core/kernel.h"

namespace fusedmlp::cli {

// Its run() reads problem.packed once, divided among the executor's threads, and computes nothing. One thread reads
// what fits into half of its L2, as the kernels do.
const core::KernelEntry& read_floor();

}  // namespace fusedmlp::cli
