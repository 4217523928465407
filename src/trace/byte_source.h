// The text of a trace file, plain or inflated, as a stream of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "fusedmlp/status.h"

namespace fusedmlp::trace {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Up to n bytes of text; fewer only at the end.
  virtual std::size_t read(char* to, std::size_t n) = 0;

  // After the end: why it came early, file unreadable or gzip damaged. Empty: it did not.
  virtual std::string problem() const = 0;

  // Bytes of the file read so far, and in all (0: not known).
  virtual std::uint64_t consumed() const = 0;
  virtual std::uint64_t total() const = 0;
  virtual bool compressed() const { return false; }
};

// The share of the file read so far; 0 when its size is not known.
inline double progress_of(const ByteSource& source) {
  return source.total() == 0 ? 0 : static_cast<double>(source.consumed()) / static_cast<double>(source.total());
}

// The file's bytes as they are. A Status on argument "path" when there is nothing to read.
Result<std::unique_ptr<ByteSource>> open_file(const std::string& path);

// Bytes in memory, which must outlive the source.
std::unique_ptr<ByteSource> memory_source(std::string_view bytes);

// The text of `bytes`: themselves, or what they inflate to if they begin as gzip does. Large files are inflated on a
// thread of their own.
std::unique_ptr<ByteSource> text_of(std::unique_ptr<ByteSource> bytes);

// Why a file is refused, on argument "path".
Status not_a_trace(const std::string& path, const std::string& why);

}  // namespace fusedmlp::trace
