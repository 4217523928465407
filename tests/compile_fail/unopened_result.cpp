// A Result does not turn into its value by itself.
// expect: (conversion|convert)
#include "fusedmlp/fusedmlp.h"

fusedmlp::MlpSpec f() {
  fusedmlp::Result<fusedmlp::MlpSpec> spec = fusedmlp::parse_spec("gelu:1x1");
#ifdef MUST_NOT_COMPILE
  return spec;
#else
  return spec ? *spec : fusedmlp::MlpSpec{};
#endif
}
