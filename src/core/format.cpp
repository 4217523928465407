#define FMT_HEADER_ONLY 1  // here alone, so that nothing is to be linked
#include "core/format.h"

#include <fmt/format.h>

namespace fusedmlp::core {

std::string vformat(fmt::string_view pattern, fmt::format_args args) { return fmt::vformat(pattern, args); }

}  // namespace fusedmlp::core
