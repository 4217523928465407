// Parses the inside of an event array on several threads.
#pragma once

#include <cstdint>
#include <functional>

#include "trace/builder.h"
#include "trace/byte_source.h"
#include "trace/text_block.h"

namespace fusedmlp::trace {

struct ParallelOptions {
  int threads = 2;
  std::size_t block = std::size_t{1} << 20;
  bool python_functions = false;
  std::function<void()> read_more;  // called whenever a block was read
};

// What is left for a serial parser: text from the first byte that no record used, and whether the source ended.
struct Remainder {
  TextBlock text;
  bool ended = false;  // nothing follows the text
};

// `text`, inside an event array, and what follows it in `source` are cut where one record ends and another begins, as
// far as that can be seen locally. The pieces are parsed side by side and added in order. The first piece that does
// not end where it was cut (the array ended, or the cut was inside a record after all) ends the work.
Remainder parse_in_parallel(TextBlock text, ByteSource& source, const ParallelOptions& options,
                            TraceBuilder& builder);

}  // namespace fusedmlp::trace
