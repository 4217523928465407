#include "core/version.h"  // made by CMake from the project's version

#include "fusedmlp/plan.h"

namespace fusedmlp {
inline namespace v0 {

const char* version() noexcept { return FUSEDMLP_VERSION; }

}  // namespace v0
}  // namespace fusedmlp
