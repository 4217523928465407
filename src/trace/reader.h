// Reads a Kineto trace into a Trace.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "fusedmlp/status.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

struct ReadOptions {
  bool python_functions = false;
  std::function<void(std::uint64_t read, std::uint64_t total)> progress;
};

// Plain or gzip, told by content. Cut or damaged: what was read, and a warning with the byte offset. No trace at
// all: a Status on argument "path".
Result<Trace> read(const std::string& path, const ReadOptions& options = {});

}  // namespace fusedmlp::trace
