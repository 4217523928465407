#include "numerics/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace fusedmlp::test {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::byte kPoison{0xff};  // NaN in fp32, bf16 and fp16

std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Memory::~Memory() {
  for (const Block& block : blocks_) ::munmap(block.mapping, block.mapping_bytes);
}

std::byte* Memory::take(std::size_t bytes, std::size_t alignment, std::size_t offset) {
  // A page of room around the block; the pages outside are unreadable in every mode.
  const std::size_t inner = round_up(bytes + alignment, kPage) + (guard_ == Guard::bands ? 2 * kPage : 0);
  Block block;
  block.mapping_bytes = inner + 2 * kPage;
  void* mapping = ::mmap(nullptr, block.mapping_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  block.mapping = static_cast<std::byte*>(mapping);
  block.begin = block.mapping + kPage;
  block.end = block.begin + inner;
  if (::mprotect(block.begin, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  std::memset(block.begin, static_cast<int>(kPoison), inner);
  switch (guard_) {
    case Guard::bands: block.data = block.begin + kPage + offset; break;
    case Guard::page_before: block.data = block.begin + offset; break;
    case Guard::page_after:
      block.data = block.begin + (inner - bytes - offset) / alignment * alignment + offset;
      break;
  }
  block.bytes = bytes;
  blocks_.push_back(block);
  return block.data;
}

void Memory::freeze() {
  for (Block& block : blocks_) block.frozen.assign(block.data, block.data + block.bytes);
}

std::string Memory::violation() const {
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& b = blocks_[i];
    for (const std::byte* p = b.begin; p < b.end; ++p) {
      if (p == b.data) p += b.bytes;  // the block itself may be written
      if (p >= b.end) break;
      if (*p != kPoison) {
        return "block " + std::to_string(i) + " of " + std::to_string(b.bytes) + " bytes: byte " +
               std::to_string(p - b.data) + " was written";
      }
    }
    if (!b.frozen.empty() && std::memcmp(b.frozen.data(), b.data, b.bytes) != 0) {
      return "block " + std::to_string(i) + " of " + std::to_string(b.bytes) + " bytes: an input was changed";
    }
  }
  return {};
}

}  // namespace fusedmlp::test
