// Text from {fmt} patterns, checked at compile time. {fmt} itself is compiled once, in format.cpp: its headers cost
// seconds in every file that makes code of them.
#pragma once

#include <fmt/core.h>

#include <string>

namespace fusedmlp::core {

std::string vformat(fmt::string_view pattern, fmt::format_args args);

template <class... Args>
std::string format(fmt::format_string<Args...> pattern, Args&&... args) {
  return core::vformat(pattern, fmt::make_format_args(args...));
}

}  // namespace fusedmlp::core
