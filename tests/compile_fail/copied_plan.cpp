// A Plan owns packed weights: it moves, it does not copy.
// expect: (deleted|implicitly)
#include <utility>

#include "fusedmlp/fusedmlp.h"

fusedmlp::Plan f(fusedmlp::Plan& plan) {
#ifdef MUST_NOT_COMPILE
  return fusedmlp::Plan(plan);
#else
  return fusedmlp::Plan(std::move(plan));
#endif
}
