// Memory that knows when somebody reads or writes beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fusedmlp::test {

enum class Guard {
  bands,       // poisoned bytes on both sides, looked at afterwards: finds writes, and reads as NaN in results
  page_after,  // the block ends where an unreadable page begins: any access beyond faults
  page_before,
};

class Memory {
 public:
  explicit Memory(Guard guard = Guard::bands) : guard_(guard) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // `bytes` bytes, every one 0xff (NaN in all three types), at an address that is `offset` past a multiple of
  // `alignment`; `offset` < `alignment` <= 4096. With Guard::page_after the last byte touches the page when
  // `bytes` + `offset` allows it.
  std::byte* take(std::size_t bytes, std::size_t alignment = 64, std::size_t offset = 0);

  // Remembers the contents of everything taken so far, for changed().
  void freeze();
  // What was written that should not have been: bands around any block, or frozen contents. Empty: nothing.
  std::string violation() const;

 private:
  struct Block {
    std::byte* mapping;
    std::size_t mapping_bytes;
    std::byte* begin;  // the accessible part
    std::byte* end;
    std::byte* data;
    std::size_t bytes;
    std::vector<std::byte> frozen;
  };

  Guard guard_;
  std::vector<Block> blocks_;
};

}  // namespace fusedmlp::test
