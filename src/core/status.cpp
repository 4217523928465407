#include "fusedmlp/status.h"

#include "core/format.h"
#include "core/text.h"

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

namespace core {

std::string quoted(std::string_view text, std::size_t limit) {
  std::string out = "\"";
  for (const char c : text.substr(0, limit)) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += core::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  out += text.size() > limit ? "...\"" : "\"";
  return out;
}

}  // namespace core
}  // namespace fusedmlp
