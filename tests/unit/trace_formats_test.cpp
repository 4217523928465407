// The ways in which sound traces differ: versions of Kineto, tools that rewrote them, other makers of the format.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "trace/json_text.h"
#include "trace_files.h"

namespace fusedmlp::trace {
namespace {

using test::data_path;
using test::dump;
using test::file_text;
using test::gunzip;
using test::trace_of;
using test::with_events;

TEST(TraceFormats, MicrosecondsBecomeNanosecondsExactly) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"0", 0},
      {"1", 1000},
      {"4371013044768.741", 4371013044768741},
      {"1623143089861589", 1623143089861589000},  // 16 digits, no base: 2021
      {"1623143089861589.123", 1623143089861589123},
      {"0.001", 1},
      {"0.0005", 1},
      {"0.00049999", 0},
      {"0.3", 300},
      {"2.", 2000},
      {".5", 500},
      {"-1.5", -1500},
      {"-0.0005", -1},
      {"1e3", 1000000},
      {"1.7514108E+15", 1751410800000000000},
      {"12345e-4", 1235},
      {"1e-400", 0},
      {"0e99999999999999999999", 0},
      {"9223372036854775.807", 9223372036854775807},
      {"0000000000000000000000000000012.5", 12500},
      {"12.500000000000000000000000000000", 12500},
  };
  for (const auto& [text, nanoseconds] : cases) {
    std::int64_t out = -7;
    EXPECT_TRUE(parse_microseconds(text, out)) << text;
    EXPECT_EQ(out, nanoseconds) << text;
  }
  for (const char* text : {"", "-", "+", ".", "NaN", "null", "Infinity", "1x", "1.2.3", "1e", "1e+", "--1", "1 ",
                           "9223372036854775.808", "9223372036854775.8075", "1e300", "99999999999999999999"}) {
    std::int64_t out = -7;
    EXPECT_FALSE(parse_microseconds(text, out)) << text;
    EXPECT_EQ(out, -7) << text;
  }
}

TEST(TraceFormats, IntegersOverSixtyFourBitsAreNone) {
  std::int64_t out = -7;
  EXPECT_TRUE(parse_int("9223372036854775807", out));
  EXPECT_EQ(out, std::numeric_limits<std::int64_t>::max());
  EXPECT_TRUE(parse_int("-12", out));
  EXPECT_EQ(out, -12);
  EXPECT_TRUE(parse_int("7.000", out));
  EXPECT_EQ(out, 7);
  for (const char* text : {"9223372036854775808", "18446744073709551615", "7.5", "", "x", "7.0e1"}) {
    EXPECT_FALSE(parse_int(text, out)) << text;
    EXPECT_EQ(out, 7) << text;
  }
}

TEST(TraceFormats, EscapesBecomeUtf8) {
  EXPECT_EQ(unescape(R"(a\"b\\c\/d\n\t\r\b\f)"), "a\"b\\c/d\n\t\r\b\f");
  EXPECT_EQ(unescape(R"(\u0041\u00e9\u20ac\ud83d\ude00)"), "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(unescape(R"(\ud83d!\ude00)"), "\xef\xbf\xbd!\xef\xbf\xbd");
  EXPECT_EQ(unescape(R"(\x\u12G4\)"), R"(\x\u12G4\)");
}

TEST(TraceFormats, KnowsTheCategoriesOfEveryVersion) {
  const std::pair<const char*, Category> cases[] = {
      {"cpu_op", Category::cpu_op},
      {"Operator", Category::cpu_op},
      {"kernel", Category::kernel},
      {"Kernel", Category::kernel},
      {"gpu_memcpy", Category::memcpy},
      {"Memcpy", Category::memcpy},
      {"gpu_memset", Category::memset},
      {"Memset", Category::memset},
      {"cuda_runtime", Category::runtime},
      {"cuda_driver", Category::runtime},
      {"hip_runtime", Category::runtime},
      {"Runtime", Category::runtime},
      {"user_annotation", Category::user_annotation},
      {"User", Category::user_annotation},
      {"gpu_user_annotation", Category::gpu_user_annotation},
      {"overhead", Category::overhead},
      {"cuda_sync", Category::sync},
      {"Trace", Category::other},
      {"something new", Category::other},
  };
  for (const auto& [name, category] : cases) {
    const Trace trace = trace_of(with_events(
        {std::string(R"({"ph":"X","cat":")") + name + R"(","name":"n","pid":1,"tid":1,"ts":1,"dur":1})"}));
    ASSERT_EQ(trace.events.size(), 1u) << name;
    EXPECT_EQ(trace.events[0].category, category) << name;
  }
  const Trace step = trace_of(
      with_events({R"({"ph":"X","cat":"Operator","name":"ProfilerStep#3","pid":1,"tid":1,"ts":1,"dur":1})"}));
  EXPECT_EQ(step.events.at(0).category, Category::user_annotation);
}

TEST(TraceFormats, PythonFunctionsAreKeptOnlyWhenAskedFor) {
  const std::string text =
      with_events({R"({"ph":"X","cat":"python_function","name":"f","pid":1,"tid":1,"ts":1,"dur":1,
                      "args":{"Python id":1,"Python parent id":null,"Ev Idx":0}})"});
  EXPECT_TRUE(trace_of(text).events.empty());
  ReadOptions options;
  options.python_functions = true;
  const Trace trace = trace_of(text, options);
  ASSERT_EQ(trace.events.size(), 1u);
  EXPECT_EQ(trace.events[0].category, Category::python_function);
}

// The trace of 2021 is that of torch_tb_profiler's tests in form: string tids, integer times, old names.
TEST(TraceFormats, ReadsFilesOf2021) {
  const Trace trace = trace_of(R"({"schemaVersion": 1, "traceEvents": [
    {"ph": "X", "cat": "Operator", "name": "aten::addmm", "pid": 13721, "tid": "123", "ts": 1623143089861589,
     "dur": 60, "args": {"Device": 13721, "External id": 3, "Trace name": "PyTorch Profiler", "Trace iteration": 0,
     "Input Dims": [[2, 8], []], "Input dims": [[4, 8], []], "Input type": ["float", ""]}},
    {"ph": "X", "cat": "Runtime", "name": "cudaLaunchKernel", "pid": 13721, "tid": "456", "ts": 1623143089861600,
     "dur": 20, "args": {"cbid": 211, "correlation": 40348, "external id": 3, "external ts": 1623143089861589}},
    {"ph": "X", "cat": "Kernel", "name": "gemm", "pid": 2, "tid": "stream 7", "ts": 1623143089861710, "dur": 20,
     "args": {"correlation": 40348, "external id": 3}},
    {"ph": "s", "id": 40348, "pid": 13721, "tid": "456", "ts": 1623143089861600, "cat": "async", "name": "launch"}
  ]})");
  ASSERT_EQ(trace.events.size(), 3u);
  EXPECT_EQ(trace.events[0].start, 1623143089861589000);
  EXPECT_EQ(trace.text(trace.events[0].tid), "123");
  const OpArgs& op = trace.op_args[trace.events[0].args];
  EXPECT_EQ(op.external_id, 3);
  EXPECT_EQ(trace.shapes[op.dims], (Shapes{{4, 8}, {}}));  // of a field that comes twice the later one counts
  const RuntimeArgs& call = trace.runtime_args[trace.events[1].args];
  EXPECT_EQ(call.correlation, 40348);
  EXPECT_EQ(call.external_id, 3);
  const DeviceArgs& kernel = trace.device_args[trace.events[2].args];
  EXPECT_EQ(kernel.external_id, 3);
  EXPECT_EQ(kernel.device, 2);
  EXPECT_EQ(kernel.stream, 7);
  EXPECT_TRUE(trace.warnings.empty());
}

// A text among the dims was read past the end of a copy of them; AddressSanitizer tells.
TEST(TraceFormats, DimsThatAreNoNumbersAreNone) {
  for (int length = 0; length < 20; ++length) {
    const std::string word(static_cast<std::size_t>(length), 'a');
    const Trace trace = trace_of(R"({"schemaVersion": 1, "traceEvents": [
      {"ph": "X", "cat": "cpu_op", "name": "mm", "pid": 1, "tid": 1, "ts": 1, "dur": 2,
       "args": {"Input Dims": [[2, 3], [")" +
                                 word + R"("], ")" + word + R"("]}}]})");
    ASSERT_EQ(trace.events.size(), 1u);
    EXPECT_EQ(trace.shapes[trace.op_args[trace.events[0].args].dims], (Shapes{{2, 3}, {}, {}}));
  }
}

TEST(TraceFormats, OrderOfKeysAndWhiteSpaceDoNotMatter) {
  const std::string expected =
      "aB 1 2  0 1500 2000 4 -1 -1|[ 1][][]|\n"
      "k 0 7  3 3000 1000 -1 5 0 7 1 2 3 -1 -1 -1 -1 -1 -1 -1 -1\n"
      "GPU 0 -1 -1 4 -1 -1 -1 -1\n";
  // Header first, bulky metadata that looks like events, several lines.
  EXPECT_EQ(dump(trace_of(R"({
    "deviceProperties": [ { "id": 0, "name": "GPU", "numSms": 4 } ],
    "metadata": {"deep": [{"a": "},{\"ph\""}, {"b": [1, {}]}], "n": NaN},
    "INFO": ["x"], "ERROR": [], "baseTimeNanoseconds": 1751410836000000000,
    "traceEvents": [
      {"ph": "X", "cat": "cpu_op", "name": "aB", "pid": 1, "tid": 2, "ts": 1.5, "dur": 2,
       "args": {"External id": 4, "Input Dims": [[1], [], [[2], [3]]], "list": [{"a": 1}, {"ph": "X"}]}},
      {"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 3, "dur": 1,
       "args": {"correlation": 5, "grid": [1, 2, 3]}}
    ], "traceName": "x"})")),
            expected);
  // Header last, keys of events the other way round, minified, numbers in quotes, an escape in a name.
  EXPECT_EQ(
      dump(trace_of(
          R"({"traceEvents":[{"args":{"grid":[1,2,3],"correlation":"5"},"dur":1,"ts":3,"tid":7,"pid":0,"name":"k",)"
          R"("cat":"kernel","ph":"X"},{"args":{"Input Dims":[[1],[],[[2],[3]]],"External id":4},"dur":2,"ts":"1.5",)"
          R"("tid":"2","pid":"1","name":"a\u0042","cat":"cpu_op","ph":"X"}],)"
          R"("deviceProperties":[{"numSms":4,"name":"GPU","id":0}]})")),
      expected);
}

TEST(TraceFormats, AnArrayOfEventsIsATraceToo) {
  const char* const event = R"({"ph":"X","cat":"cpu_op","name":"a","pid":1,"tid":1,"ts":1,"dur":1})";
  // The Chrome format lets the end of the array be missing, and a comma dangle.
  for (const std::string& text : {std::string("[") + event + "]", std::string("\xef\xbb\xbf [") + event + ",",
                                  std::string("[") + event + "\n"}) {
    const Trace trace = trace_of(text);
    EXPECT_EQ(trace.events.size(), 1u) << text;
    EXPECT_TRUE(trace.warnings.empty()) << text;
  }
}

TEST(TraceFormats, BeginsAndEndsBecomeEvents) {
  const Trace trace = trace_of(with_events({
      R"({"ph":"B","cat":"cpu_op","name":"outer","pid":1,"tid":1,"ts":10,"args":{"External id":1}})",
      R"({"ph":"B","cat":"cpu_op","name":"inner","pid":1,"tid":1,"ts":11})",
      R"({"ph":"B","cat":"cpu_op","name":"elsewhere","pid":1,"tid":2,"ts":11.5})",
      R"({"ph":"E","pid":1,"tid":1,"ts":12})",
      R"({"ph":"E","pid":1,"tid":1,"ts":15,"args":{"External id":9}})",
      R"({"ph":"E","pid":1,"tid":1,"ts":16})",
  }));
  EXPECT_EQ(dump(trace),
            "outer 1 1  0 10000 5000 1 -1 -1||\n"
            "inner 1 1  0 11000 1000 -1 -1 -1||\n");
  ASSERT_EQ(trace.warnings.size(), 1u);  // the end without a begin, the begin without an end
  EXPECT_NE(trace.warnings[0].find("2 records"), std::string::npos) << trace.warnings[0];
}

TEST(TraceFormats, EventsComeByStartAndOfEqualStartsTheLongerFirst) {
  const Trace trace = trace_of(with_events({
      R"({"ph":"X","cat":"cpu_op","name":"late","pid":1,"tid":1,"ts":5,"dur":1})",
      R"({"ph":"X","cat":"cpu_op","name":"short","pid":1,"tid":1,"ts":1,"dur":1})",
      R"({"ph":"X","cat":"cpu_op","name":"long","pid":1,"tid":1,"ts":1,"dur":9})",
  }));
  ASSERT_EQ(trace.events.size(), 3u);
  EXPECT_EQ(trace.text(trace.events[0].name), "long");
  EXPECT_EQ(trace.text(trace.events[1].name), "short");
  EXPECT_EQ(trace.text(trace.events[2].name), "late");
}

TEST(TraceFormats, WhatIsMissingIsNone) {
  const Trace trace = trace_of(with_events({
      R"({"ph":"X","cat":"kernel","ts":1,"dur":2})",
      R"({"ph":"X","ts":3,"dur":2})",
      R"({"ph":"X","cat":"cpu_op","name":"no end","ts":4})",
      R"({"ph":"X","cat":"cpu_op","name":"no begin","dur":4})",
      R"({"ph":"X","cat":"cpu_op","name":"backwards","ts":4,"dur":-4})",
      R"({"ph":"X","cat":"cpu_op","name":"not a time","ts":NaN,"dur":4})",
      R"({"cat":"cpu_op","name":"no phase","ts":4,"dur":4})",
      R"({})",
  }));
  EXPECT_EQ(dump(trace),
            "(none) (none) (none)  3 1000 2000 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1\n"
            "(none) (none) (none)  10 3000 2000 no args\n");
  ASSERT_EQ(trace.warnings.size(), 1u);
  EXPECT_EQ(trace.warnings[0], "4 records without a usable ts and dur were left out");
}

TEST(TraceFormats, SeveralDevicesAndStreamsKeepTheirNumbers) {
  const Trace trace = trace_of(with_events({
      R"({"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1,"dur":1,"args":{"device":0,"stream":7}})",
      R"({"ph":"X","cat":"kernel","name":"k","pid":1,"tid":20,"ts":2,"dur":1,"args":{"device":1,"stream":20}})",
      R"({"ph":"X","cat":"gpu_memcpy","name":"m","pid":3,"tid":"stream 21","ts":3,"dur":1,"args":{"bytes":4096}})",
  }));
  ASSERT_EQ(trace.device_args.size(), 3u);
  EXPECT_EQ(trace.device_args[1].device, 1);
  EXPECT_EQ(trace.device_args[1].stream, 20);
  EXPECT_EQ(trace.device_args[2].device, 3);
  EXPECT_EQ(trace.device_args[2].stream, 21);
  EXPECT_EQ(trace.device_args[2].bytes, 4096);
  EXPECT_EQ(trace.events[0].name, trace.events[1].name);  // a text is kept once
}

// ROCm's files as Python's json module wrote them again: indented lists, HIP names under cuda_runtime.
TEST(TraceFormats, ReadsRocm) {
  const Trace trace = trace_of(R"({"traceEvents": [{
      "ph": "X", "cat": "cuda_runtime", "name": "hipExtModuleLaunchKernel", "pid": 6240, "tid": 6240,
      "ts": 2204338330188.1, "dur": 4.2,
      "args": {"External id": 9, "cid": 213, "correlation": 802}
    }, {
      "ph": "X",
      "cat": "kernel",
      "name": "Cijk_Ailk_Bljk_BBS_BH_MT64x16x64",
      "pid": 2,
      "tid": 0,
      "ts": 2204338330237.582,
      "dur": 3.086,
      "args": {"External id": 9, "device": 2, "stream": 0, "correlation": 802, "kind": "Dispatch Kernel",
        "grid": [
          16,
          1,
          1
        ]
      }
    }]})");
  EXPECT_EQ(dump(trace),
            "hipExtModuleLaunchKernel 6240 6240  6 2204338330188100 4200 802 9\n"
            "Cijk_Ailk_Bljk_BBS_BH_MT64x16x64 2 0  3 2204338330237582 3086 9 802 2 0 16 1 1 -1 -1 -1 -1 -1 -1 -1 "
            "-1\n");
}

TEST(TraceFormats, CompressedInSeveralMembersAndWithPadding) {
  const std::string plain = gunzip(file_text(data_path("linear_32_64_eager.json.gz")));
  const std::string expected = dump(trace_of(plain));
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, plain.size() / 2, plain.size()}) {
    const std::string two = test::gzip(plain.substr(0, cut)) + test::gzip(plain.substr(cut));
    for (const std::string& padding : {std::string(), std::string(512, '\0')}) {
      const Trace trace = trace_of(two + padding);
      EXPECT_EQ(dump(trace), expected) << cut;
      EXPECT_TRUE(trace.warnings.empty()) << cut << " " << trace.warnings[0];
    }
  }
}

TEST(TraceFormats, ProgressGoesUpToTheSizeOfTheFile) {
  const std::string path = data_path("linear_32_64_eager.json.gz");
  std::uint64_t last = 0, total = 0;
  int calls = 0;
  ReadOptions options;
  options.progress = [&](std::uint64_t read, std::uint64_t of) {
    EXPECT_GE(read, last);
    last = read;
    total = of;
    ++calls;
  };
  ASSERT_TRUE(read(path, options).ok());
  EXPECT_GT(calls, 0);
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, file_text(path).size());
}

}  // namespace
}  // namespace fusedmlp::trace
