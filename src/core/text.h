// Small texts: untrusted ones inside error messages, the date.
#pragma once

#include <string>
#include <string_view>

namespace fusedmlp::core {

// "text" in double quotes, printable ASCII only (other bytes as \xNN), cut after `limit` bytes.
std::string quoted(std::string_view text, std::size_t limit = 64);

// Now, UTC, as ISO 8601 has it: "2026-01-31T12:00:00Z".
std::string utc_now();

}  // namespace fusedmlp::core
