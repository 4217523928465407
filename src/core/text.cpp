#include "core/text.h"

#include <ctime>

#include "core/format.h"

namespace fusedmlp::core {

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

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char text[sizeof "2026-01-01T00:00:00Z"] = "";
  ::gmtime_r(&now, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace fusedmlp::core
