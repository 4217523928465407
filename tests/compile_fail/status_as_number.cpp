// A Status is tested, never counted: its bool is explicit.
// expect: (cannot convert|no viable conversion)
#include "fusedmlp/fusedmlp.h"

int f(const fusedmlp::Status& status) {
#ifdef MUST_NOT_COMPILE
  const int code = status;
  return code;
#else
  return status ? 0 : 1;
#endif
}
