// Puts batches together into a Trace.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "trace/batch.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

class TraceBuilder {
 public:
  // In file order. `progress`: the share of the file read so far, or 0, to foresee the size of the tables.
  void add(const Batch& batch, double progress);

  // `text`: the value of "deviceProperties".
  void add_devices(std::string_view text);

  std::uint64_t records() const { return records_; }
  std::uint64_t untimed() const { return untimed_; }
  const std::vector<Damage>& damages() const { return damages_; }

  // Pairs begins with ends, sorts the events, and gives the trace away.
  Trace finish();

 private:
  std::uint32_t add_string(std::string_view text);
  std::uint32_t add_shapes(std::string_view text);
  void pair_begins_and_ends();

  Trace trace_;
  std::deque<std::string> strings_;  // in place while the index looks at them
  TextIndex string_index_;
  std::deque<std::string> shape_texts_;
  TextIndex shape_index_;
  std::vector<Event> begins_and_ends_;
  std::vector<Damage> damages_;
  std::uint64_t records_ = 0;
  std::uint64_t untimed_ = 0;
};

}  // namespace fusedmlp::trace
