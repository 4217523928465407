#include "trace/reader.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/format.h"
#include "trace_files.h"

namespace fusedmlp::trace {
namespace {

using test::data_path;
using test::file_text;
using test::gunzip;
using test::gzip;
using test::read_text;
using test::TemporaryFile;
using test::trace_of;
using test::with_events;

constexpr const char* kOp =
    R"({"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 400, "tid": 401, "ts": 10.5, "dur": 2.25, "args":
    {"External id": 7, "Sequence number": 3, "Fwd thread id": 1, "Ev Idx": 2, "Concrete Inputs": ["", "[1, 2]"],
     "Input type": ["c10::BFloat16", ""], "Input Strides": [[3, 1], []], "Input Dims": [[2, 3], []]}})";
constexpr const char* kKernel =
    R"({"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 20.001, "dur": 1.5, "args":
    {"External id": 7, "queued": 0, "device": 1, "context": 1, "stream": 9, "correlation": 55,
     "registers per thread": 168, "shared memory": 213188, "blocks per SM": 1.0, "warps per SM": 12.0,
     "grid": [2, 66, 1], "block": [384, 1, 1], "graph id": 5, "graph node id": 6,
     "est. achieved occupancy %": 0}})";

TEST(TraceReader, ReadsEveryFieldOfAnOp) {
  const Trace trace = trace_of(with_events({kOp}));
  ASSERT_EQ(trace.events.size(), 1u);
  const Event& event = trace.events[0];
  EXPECT_EQ(event.category, Category::cpu_op);
  EXPECT_EQ(event.start, 10500);
  EXPECT_EQ(event.duration, 2250);
  EXPECT_EQ(event.end(), 12750);
  EXPECT_EQ(trace.text(event.name), "aten::mm");
  EXPECT_EQ(trace.text(event.pid), "400");
  EXPECT_EQ(trace.text(event.tid), "401");
  ASSERT_EQ(trace.op_args.size(), 1u);
  const OpArgs& args = trace.op_args[event.args];
  EXPECT_EQ(args.external_id, 7);
  EXPECT_EQ(args.sequence, 3);
  EXPECT_EQ(args.forward_thread, 1);
  EXPECT_EQ(trace.shapes[args.dims], (Shapes{{2, 3}, {}}));
  EXPECT_EQ(trace.shapes[args.strides], (Shapes{{3, 1}, {}}));
  EXPECT_EQ(trace.text(args.types), R"(["c10::BFloat16", ""])");
  EXPECT_EQ(trace.text(args.concrete), R"(["", "[1, 2]"])");
  EXPECT_TRUE(trace.warnings.empty());
}

TEST(TraceReader, ReadsEveryFieldOfAKernel) {
  const Trace trace = trace_of(with_events({kKernel}));
  ASSERT_EQ(trace.events.size(), 1u);
  EXPECT_EQ(trace.events[0].category, Category::kernel);
  EXPECT_EQ(trace.events[0].start, 20001);
  const DeviceArgs& args = trace.device_args[trace.events[0].args];
  EXPECT_EQ(args.external_id, 7);
  EXPECT_EQ(args.correlation, 55);
  EXPECT_EQ(args.device, 1);
  EXPECT_EQ(args.stream, 9);
  EXPECT_EQ(args.grid[0], 2);
  EXPECT_EQ(args.grid[1], 66);
  EXPECT_EQ(args.grid[2], 1);
  EXPECT_EQ(args.block[0], 384);
  EXPECT_EQ(args.registers, 168);
  EXPECT_EQ(args.shared_memory, 213188);
  EXPECT_EQ(args.graph, 5);
  EXPECT_EQ(args.graph_node, 6);
  EXPECT_EQ(args.bytes, -1);
}

TEST(TraceReader, ReadsARealTracePlainAndCompressed) {
  const std::string packed = data_path("linear_32_64_eager.json.gz");
  const Result<Trace> result = read(packed);
  ASSERT_TRUE(result.ok()) << result.status().to_string();
  const TemporaryFile unpacked(gunzip(file_text(packed)));
  const Result<Trace> plain = read(unpacked.path());
  ASSERT_TRUE(plain.ok()) << plain.status().to_string();
  for (const Trace* trace : {&*result, &*plain}) {
    EXPECT_TRUE(trace->warnings.empty());
    ASSERT_EQ(trace->devices.size(), 1u);
    EXPECT_EQ(trace->devices[0].name, "NVIDIA H200");
    EXPECT_EQ(trace->devices[0].sms, 132);
    EXPECT_EQ(trace->devices[0].compute_major, 9);
    EXPECT_EQ(trace->devices[0].memory_bytes, 150109880320);
    EXPECT_EQ(trace->devices[0].max_threads_per_sm, 2048);
    EXPECT_EQ(trace->devices[0].registers_per_sm, 65536);
    EXPECT_EQ(trace->devices[0].shared_memory_per_sm, 233472);
    int kernels = 0, ops = 0, calls = 0;
    for (const Event& event : trace->events) {
      kernels += event.category == Category::kernel;
      ops += event.category == Category::cpu_op;
      calls += event.category == Category::runtime;
    }
    EXPECT_EQ(kernels, 3);
    EXPECT_EQ(ops, 15);
    EXPECT_EQ(calls, 4);
    for (std::size_t i = 1; i < trace->events.size(); ++i) {
      EXPECT_LE(trace->events[i - 1].start, trace->events[i].start);
    }
  }
}

// Many blocks, several threads, a thread that inflates: every event arrives, in order, once.
TEST(TraceReader, ReadsALargeFile) {
  constexpr int kEvents = FUSEDMLP_SANITIZED ? 20000 : 100000;
  std::string text = R"({"schemaVersion": 1, "traceEvents": [)";
  std::uint64_t random = 1;
  for (int i = 0; i < kEvents; ++i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    text += core::format(R"({}{{"ph":"X","cat":"cpu_op","name":"op {}","pid":1,"tid":{},"ts":{}.{:03},"dur":0.5,)"
                         R"("args":{{"External id":{},"Input Dims":[[{},2],[]],"noise":"{:x}"}}}})",
                         i == 0 ? "" : ",\n", i % 100, i % 3, i, i % 1000, i + 1, i % 50, random);
  }
  text += R"(], "traceName": "generated"})";
  const std::string packed = test::gzip(text);
  ASSERT_GT(packed.size(), std::size_t{1} << 18);  // enough for the thread
  for (const std::string* bytes : {&std::as_const(text), &packed}) {
    for (const int threads : {1, 2, 4}) {
      ReadOptions options;
      options.threads = threads;
      options.block = std::size_t{1} << 16;
      const Trace trace = trace_of(*bytes, options);
      EXPECT_TRUE(trace.warnings.empty());
      ASSERT_EQ(trace.events.size(), static_cast<std::size_t>(kEvents));
      EXPECT_EQ(trace.shapes.size(), 50u);
      for (int i = 0; i < kEvents; ++i) {
        const Event& event = trace.events[static_cast<std::size_t>(i)];
        ASSERT_EQ(event.start, std::int64_t{i} * 1000 + i % 1000);
        ASSERT_EQ(trace.op_args[event.args].external_id, i + 1);
        ASSERT_EQ(trace.shapes[trace.op_args[event.args].dims][0][0], i % 50);
      }
    }
  }
  // Cut: what was inflated until then.
  const Trace cut = trace_of(std::string_view(packed).substr(0, packed.size() / 2));
  EXPECT_GT(cut.events.size(), static_cast<std::size_t>(kEvents / 4));
  ASSERT_EQ(cut.warnings.size(), 1u);
  EXPECT_TRUE(cut.warnings[0].starts_with("the compressed file ends early")) << cut.warnings[0];
}

// An event costs a few tens of bytes: what a file of a gigabyte holds must fit.
static_assert(sizeof(Event) <= 40 && sizeof(OpArgs) <= 40 && sizeof(RuntimeArgs) <= 16 && sizeof(DeviceArgs) <= 96);

TEST(TraceReader, RefusesWhatIsNoTraceWithTheReason) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "it is empty"},
      {" \n\t ", "white space"},
      {"hello", "begins with 'h'"},
      {"PK\x03\x04", "begins with 'P'"},
      {"{}", "no array \"traceEvents\""},
      {"{\"a\": [1, 2], \"traceEvents\": 5}", "no array \"traceEvents\""},
      {"{\"a\": 1", "before its end at byte 7"},
      {"[]", "holds no trace events"},
      {"[1, 2]", "holds no trace events"},
      {gzip("hello"), "begins with 'h'"},
  };
  for (const auto& [text, reason] : cases) {
    const Result<Trace> result = read_text(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_EQ(result.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(result.status().argument(), "path");
    EXPECT_NE(result.status().message().find(reason), std::string::npos) << result.status().message();
  }
  const std::string folder = std::filesystem::temp_directory_path().string();
  EXPECT_NE(read(folder).status().message().find("it is a directory"), std::string::npos);
  EXPECT_NE(read(folder + "/fusedmlp-no-such-file").status().message().find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace fusedmlp::trace
