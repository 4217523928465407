// The vector ISAs that this machine can run.
#pragma once

#include <cstdlib>
#include <vector>

#include "fusedmlp/device.h"

namespace fusedmlp::cpu {

inline std::vector<Isa> vector_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::amx}) {
    setenv("FUSEDMLP_ISA", to_string(isa), 1);
    if (describe(Device::cpu()).ok()) isas.push_back(isa);
  }
  unsetenv("FUSEDMLP_ISA");
  return isas;
}

}  // namespace fusedmlp::cpu
