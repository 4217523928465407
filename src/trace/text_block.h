// A stretch of a file's text in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "trace/byte_source.h"
#include "trace/json_text.h"

namespace fusedmlp::trace {

// Not initialised beyond `size`, except for the padding that TextCursor needs.
class TextBlock {
 public:
  TextBlock() : TextBlock(0, 0) {}
  TextBlock(std::size_t room, std::uint64_t offset)
      : data_(std::make_unique_for_overwrite<char[]>(room + kTextPadding)), room_(room), offset_(offset) {
    pad();
  }

  void append(const char* from, const char* to) {
    const auto n = static_cast<std::size_t>(to - from);
    if (n > 0) std::memcpy(data_.get() + size_, from, n);
    size_ += n;
    pad();
  }
  // Fills the room that is left; false: the source ended.
  bool fill(ByteSource& source) {
    const std::size_t wanted = room_ - size_;
    const std::size_t got = source.read(data_.get() + size_, wanted);
    size_ += got;
    pad();
    return got == wanted;
  }
  void truncate(const char* end) {
    size_ = static_cast<std::size_t>(end - data_.get());
    pad();
  }

  std::size_t size() const { return size_; }
  const char* begin() const { return data_.get(); }
  const char* end() const { return data_.get() + size_; }
  TextCursor cursor() const { return {begin(), end()}; }
  // Of the byte at p in the whole text.
  std::uint64_t offset_of(const char* p) const { return offset_ + static_cast<std::uint64_t>(p - begin()); }

 private:
  void pad() { std::memset(data_.get() + size_, 0, kTextPadding); }

  std::unique_ptr<char[]> data_;
  std::size_t room_ = 0;
  std::size_t size_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace fusedmlp::trace
