// A Result may not be dropped.
// expect: (nodiscard|unused)
#include "fusedmlp/fusedmlp.h"

void f() {
#ifdef MUST_NOT_COMPILE
  fusedmlp::parse_spec("gelu:1x1");
#else
  static_cast<void>(fusedmlp::parse_spec("gelu:1x1"));
#endif
}
