// Inflates gzip (RFC 1952).
#pragma once

#include <memory>
#include <string_view>

#include "trace/byte_source.h"

namespace fusedmlp::trace {

inline constexpr std::string_view kGzipMagic = "\x1f\x8b";

// The text of every member of a gzip file, one after the other. From a size on where it pays, a thread of its own
// inflates ahead of whoever reads.
std::unique_ptr<ByteSource> inflated(std::unique_ptr<ByteSource> bytes);

}  // namespace fusedmlp::trace
