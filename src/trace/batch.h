// The events of one stretch of a file, before they join the Trace.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "trace/json_text.h"
#include "trace/text_index.h"
#include "trace/trace.h"

namespace fusedmlp::trace {

// A place where the text is not JSON: the byte that cannot stand there.
struct Damage {
  std::uint64_t offset = 0;  // in the text
  char byte = 0;
};

// Numbers of texts are the batch's own; dims and strides are texts too until the batch is merged.
struct Batch {
  std::vector<Event> events;
  std::vector<DeviceArgs> device_args;
  std::vector<OpArgs> op_args;
  std::vector<RuntimeArgs> runtime_args;
  std::vector<Event> begins_and_ends;  // phases B and E in file order; an E has duration -1
  TextIndex texts;                     // of the text parsed, or of `unescaped`
  std::deque<std::string> unescaped;
  std::vector<Damage> damages;
  std::uint64_t records = 0;  // objects in the event array, kept or not
  std::uint64_t untimed = 0;  // durations without a usable ts or dur
};

// Why parse_events() stopped.
enum class Stop : std::uint8_t {
  end_of_text,    // between records
  inside_record,  // p at the start of the record that the text cuts
  end_of_array,   // p behind the ]
};

// Parses records of an event array until the text or the array ends. Malformed ones are noted, and parsing goes on
// at the next place that looks like the start of a record.
class EventParser {
 public:
  explicit EventParser(bool python_functions) : python_functions_(python_functions) {}

  // `offset`: of the byte at c.p in the file's text.
  Stop parse(TextCursor& c, std::uint64_t offset, Batch& batch);

  // The next call starts by searching for the start of a record.
  void lose_place() { lost_ = true; }

 private:
  bool python_functions_;
  bool lost_ = false;
};

// The next `{` after `},` and before `"`: in sound JSON that is between two objects of an array, for inside a string
// the quote would end it. Null: none, and `resume` is where to search once there is more text.
const char* find_record(const char* p, const char* end, const char*& resume);

// The last such place in [begin, end), or null.
const char* find_last_record(const char* begin, const char* end);

}  // namespace fusedmlp::trace
