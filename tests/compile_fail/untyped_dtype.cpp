// A dtype is not an integer.
// expect: (cannot convert|assigning to|invalid conversion)
#include "fusedmlp/fusedmlp.h"

fusedmlp::MlpSpec f() {
  fusedmlp::MlpSpec spec;
#ifdef MUST_NOT_COMPILE
  spec.dtype = 1;
#else
  spec.dtype = fusedmlp::DType::bf16;
#endif
  return spec;
}
