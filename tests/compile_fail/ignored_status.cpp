// A Status may not be dropped.
// expect: (nodiscard|unused)
#include "fusedmlp/fusedmlp.h"

void f(const fusedmlp::Plan& plan, const void* x, void* y) {
#ifdef MUST_NOT_COMPILE
  plan.run(x, y, 1);
#else
  static_cast<void>(plan.run(x, y, 1));
#endif
}
