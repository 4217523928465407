// Whether this process may use AMX-BF16.
#pragma once

#include <string>

namespace fusedmlp::core {

// Empty when it may; else what is missing, in words. The first call asks the operating system for the tile registers
// (8 KiB a thread are saved with the others from then on), for all threads of the process.
std::string missing_for_amx();

}  // namespace fusedmlp::core
