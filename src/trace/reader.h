// Reads a Kineto trace into a Trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "fusedmlp/status.h"
#include "trace/byte_source.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

struct ReadOptions {
  bool python_functions = false;
  std::function<void(std::uint64_t read, std::uint64_t total)> progress;
  // The result does not depend on these.
  int threads = 0;                           // that parse; 0: as many as the process may use, at most 4
  std::size_t block = std::size_t{1} << 20;  // bytes read at a time
};

// Plain or gzip, told by content. Cut or damaged: what was read, and a warning with the byte offset. No trace at
// all: a Status on argument "path".
Result<Trace> read(const std::string& path, const ReadOptions& options = {});

// The same of an open source; `path` is for messages.
Result<Trace> read(std::unique_ptr<ByteSource> bytes, const std::string& path, const ReadOptions& options);

}  // namespace fusedmlp::trace
