// The AMX kernels on a model of the tile instructions, so that any machine with AVX2 runs the drivers.
#pragma once

#include "cpu/amx_kernels.h"

namespace fusedmlp::cpu {

// Tile registers of the calling thread as arrays; an instruction on one that is not set up, or with rows or columns
// that are not, ends the process.
const AmxKernels& modelled_amx_kernels();

}  // namespace fusedmlp::cpu
