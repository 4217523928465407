#include "core/format.h"
#include "core/guarded.h"
#include "core/text.h"
#include "fusedmlp/analysis.h"
#include "trace/kernel_name.h"

namespace fusedmlp {
inline namespace v0 {

Result<std::string> explain_kernel(std::string_view name) {
  return core::guarded([&]() -> Result<std::string> {
    if (name.find_first_not_of(" \t\r\n") == std::string_view::npos) {
      return Status(StatusCode::invalid_argument, "name", "got no name, accepted: a kernel's name as in a trace");
    }
    trace::KernelName decoded = trace::decode(name);
    if (!decoded.words.empty()) return std::move(decoded.words);
    const std::string known = trace::certain(name);
    return Status(StatusCode::unsupported, "name",
                  core::format("{} is of no kernel family that is known{}{}", core::quoted(name),
                               known.empty() ? "; nothing about it is certain" : "; certain is: ", known));
  });
}

}  // namespace v0
}  // namespace fusedmlp
