// The trace reader and the join on any bytes at all. A text may be refused, with a reason on "path"; a trace that
// comes out is consistent, and the same whatever the size of the blocks it was read in and the number of threads.
//   clang++ -std=c++20 -fsanitize=fuzzer,address,undefined ... fuzz/read_trace.cpp, as fuzz/parse_spec.cpp
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "trace/join.h"
#include "trace/match.h"
#include "trace/reader.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::trace;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "read_trace broke \"%s\"\n", what);
  std::abort();
}

Result<Trace> read_bytes(std::string_view bytes, int threads, std::size_t block) {
  ReadOptions options;
  options.threads = threads;
  options.block = block;
  return read(memory_source(bytes), "trace", options);
}

void expect_consistent(const Trace& trace) {
  const auto text = [&](std::uint32_t id) { return id == kNone || id < trace.strings.size(); };
  const auto shape = [&](std::uint32_t id) { return id == kNone || id < trace.shapes.size(); };
  for (std::size_t i = 0; i < trace.events.size(); ++i) {
    const Event& e = trace.events[i];
    expect(e.duration >= 0 && e.end() >= e.start, "a duration is not negative");
    expect(text(e.name) && text(e.pid) && text(e.tid), "texts are there");
    if (i > 0) {
      const Event& before = trace.events[i - 1];
      expect(before.start < e.start || (before.start == e.start && before.duration >= e.duration), "events in order");
    }
    switch (e.category) {
      case Category::kernel:
      case Category::memcpy:
      case Category::memset: expect(e.args < trace.device_args.size(), "device args are there"); break;
      case Category::runtime: expect(e.args < trace.runtime_args.size(), "runtime args are there"); break;
      case Category::cpu_op: expect(e.args < trace.op_args.size(), "op args are there"); break;
      default: expect(e.args == kNone, "other events have no args");
    }
  }
  for (const OpArgs& args : trace.op_args) {
    expect(shape(args.dims) && shape(args.strides) && text(args.types) && text(args.concrete), "op texts are there");
  }
  for (const std::string& warning : trace.warnings) expect(warning.size() < 4096, "a warning is short");
}

void expect_joined(const Trace& trace, const Joined& joined) {
  expect(joined.parent.size() == trace.events.size(), "every event has a place for its parent");
  for (std::uint32_t i = 0; i < joined.parent.size(); ++i) {
    expect(joined.parent[i] == kNone || joined.parent[i] < i, "a parent comes first");
  }
  for (const Link& link : joined.links) {
    expect((link.op == kNone) == (link.how == JoinedBy::none), "an op is known somehow");
    expect((link.op == kNone) == (link.confidence == 0) && link.confidence <= 1, "an op has a confidence");
    expect(link.op == kNone || trace.events[link.op].category == Category::cpu_op, "an op is an op");
    expect(link.runtime == kNone || trace.events[link.runtime].category == Category::runtime, "a call is a call");
  }
}

bool same(const Trace& a, const Trace& b) {
  if (a.events.size() != b.events.size() || a.warnings != b.warnings || a.devices.size() != b.devices.size())
    return false;
  for (std::size_t i = 0; i < a.events.size(); ++i) {
    const Event& x = a.events[i];
    const Event& y = b.events[i];
    if (x.start != y.start || x.duration != y.duration || x.category != y.category ||
        a.text(x.name) != b.text(y.name)) {
      return false;
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Result<Trace> trace = read_bytes(bytes, 1, 1 << 16);
  const Result<Trace> again = read_bytes(bytes, size % 16 == 0 ? 2 : 1, 1 + size % 61);
  expect(trace.ok() == again.ok(), "blocks do not matter");
  if (!trace) {
    expect(trace.status().code() == StatusCode::invalid_argument, "a refusal is an invalid_argument");
    expect(trace.status().argument() == "path", "a refusal names the path");
    expect(!trace.status().message().empty() && trace.status().message().size() < 4096,
           "a refusal has a short reason");
    return 0;
  }
  expect(same(*trace, *again), "blocks do not matter");
  expect_consistent(*trace);
  const Joined joined = join(*trace);
  expect_joined(*trace, joined);
  for (const Instance& instance : match(*trace, joined).instances) {
    for (const Part& part : instance.parts) expect(part.event < trace->events.size(), "a part is an event");
  }
  return 0;
}
