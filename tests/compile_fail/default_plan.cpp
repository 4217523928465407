// There is no empty Plan: only create() makes one.
// expect: (no matching function|no matching constructor)
#include "fusedmlp/fusedmlp.h"

#ifdef MUST_NOT_COMPILE
fusedmlp::Plan f() { return fusedmlp::Plan(); }
#else
fusedmlp::Result<fusedmlp::Plan> f() { return fusedmlp::Plan::create({}, {}); }
#endif
