// The text of a trace file, plain or inflated, as a stream of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fusedmlp/status.h"

namespace fusedmlp::trace {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Up to n bytes of text; fewer only at the end, then 0.
  virtual std::size_t read(char* to, std::size_t n) = 0;

  // Why the text ended early: file unreadable or gzip damaged. Empty: it did not.
  virtual std::string problem() const = 0;

  // Bytes of the file read so far, and in all (0: not known).
  virtual std::uint64_t consumed() const = 0;
  virtual std::uint64_t total() const = 0;
  virtual bool compressed() const = 0;
};

// Plain or gzip, told by the first two bytes.
Result<std::unique_ptr<ByteSource>> open_source(const std::string& path);

// Why a file is refused, on argument "path".
Status not_a_trace(const std::string& path, const std::string& why);

}  // namespace fusedmlp::trace
