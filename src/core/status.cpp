#include "fusedmlp/status.h"

namespace fusedmlp {
inline namespace v0 {

const char* to_string(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::ok: return "ok";
    case StatusCode::invalid_argument: return "invalid_argument";
    case StatusCode::unsupported: return "unsupported";
    case StatusCode::unavailable: return "unavailable";
    case StatusCode::out_of_memory: return "out_of_memory";
    case StatusCode::internal: return "internal";
  }
  return "unknown";
}

std::string Status::to_string() const {
  std::string text = fusedmlp::to_string(code_);
  for (const std::string* part : {&argument_, &message_}) {
    if (part->empty()) continue;
    text += ": ";
    text += *part;
  }
  return text;
}

}  // namespace v0
}  // namespace fusedmlp
