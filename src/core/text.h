// Untrusted text inside error messages.
#pragma once

#include <string>
#include <string_view>

namespace fusedmlp::core {

// "text" in double quotes, printable ASCII only (other bytes as \xNN), cut after `limit` bytes.
std::string quoted(std::string_view text, std::size_t limit = 64);

}  // namespace fusedmlp::core
