// Files that are cut, damaged or not JSON at all in places, as profilers and copies leave them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/format.h"
#include "trace/batch.h"
#include "trace_files.h"

namespace fusedmlp::trace {
namespace {

using test::data_path;
using test::dump;
using test::file_text;
using test::gunzip;
using test::read_text;
using test::trace_of;
using test::with_events;

std::string op(const std::string& name, int ts, const std::string& more = "") {
  return core::format(R"({{"ph":"X","cat":"cpu_op","name":"{}","pid":1,"tid":1,"ts":{},"dur":1{}}})", name, ts, more);
}

std::string in_trace(const std::string& events_and_tail) {
  return core::format("{{\"traceEvents\": [{}", events_and_tail);
}

std::vector<std::string> names(const Trace& trace) {
  std::vector<std::string> out;
  for (const Event& event : trace.events) out.emplace_back(trace.text(event.name));
  return out;
}

// One damaged record between two sound ones: the sound ones are read, and the warning has the byte.
void expect_skipped(const std::string& damaged, std::size_t wrong_at, const std::string& shown) {
  const std::string before = in_trace(op("first", 1)) + ",\n";
  const std::string text = core::format("{}{},\n{}]}}", before, damaged, op("last", 9));
  const Trace trace = trace_of(text);
  EXPECT_EQ(names(trace), (std::vector<std::string>{"first", "last"})) << damaged;
  ASSERT_EQ(trace.warnings.size(), 1u) << damaged;
  EXPECT_EQ(trace.warnings[0], core::format("malformed JSON: unexpected {} at byte {}; the record was skipped", shown,
                                            before.size() + wrong_at))
      << damaged;
}

// github.com/pytorch/kineto/issues/1459 and pytorch/pytorch/issues/113001: names with quotes and backslashes.
TEST(TraceDamage, ARecordWithAnUnescapedQuoteIsSkipped) {
  const std::string start = R"({"ph":"X","cat":"cpu_op","name":"my )";
  expect_skipped(start + R"("quoted" op","pid":1,"tid":1,"ts":2,"dur":1})", start.size() + 1, "'q'");
  expect_skipped(start + R"(C:\","pid":1,"tid":1,"ts":2,"dur":1})", start.size() + 6, "'p'");
  expect_skipped(R"({"ph":"X","name":"a","args":{"x":"y"z"},"ts":2,"dur":1})", 36, "'z'");
}

TEST(TraceDamage, ARecordWithBrokenStructureIsSkipped) {
  expect_skipped(R"({"ph":"X" "name":"a","ts":2,"dur":1})", 10, "'\"'");
  expect_skipped(R"({"ph":"X","name":"a","ts":,"dur":1})", 26, "','");
  expect_skipped(R"({"ph":"X","name":"a","ts":2,"dur":1,})", 36, "'}'");
  expect_skipped(R"({"ph":"X","name":"a","ts":2,"dur":1]})", 35, "']'");
  expect_skipped(R"({"ph":"X","name":"a","ts":2,"dur":1,"args":{"grid":[1,2}})", 55, "'}'");
  expect_skipped(R"({ph:"X","name":"a","ts":2,"dur":1})", 1, "'p'");
  expect_skipped(std::string("{\"ph\":\0\"X\"}", 11), 6, "byte 0x00");
}

TEST(TraceDamage, ControlCharactersAndBadEscapesInStringsAreHarmless) {
  const std::string name = std::string("a\tb\nc\x01") + '\0' + "\xff";
  const Trace trace = trace_of(with_events({op(name, 1), op(R"(C:\dir\u12)", 2)}));
  EXPECT_EQ(names(trace), (std::vector<std::string>{name, R"(C:\dir\u12)"}));
  EXPECT_TRUE(trace.warnings.empty());
}

TEST(TraceDamage, TextBehindTheEndIsNotRead) {
  const std::string text = in_trace(op("a", 1)) + "]}\n";
  const Trace trace = trace_of(text + "x" + in_trace(op("b", 1)));
  EXPECT_EQ(names(trace), std::vector<std::string>{"a"});
  EXPECT_EQ(trace.warnings,
            std::vector<std::string>{
                core::format("text goes on behind the end of the JSON, at byte {}; it was not read", text.size())});
}

// NaN and integers over 64 bits (pytorch/pytorch/issues/136180, 146900) are values that mean nothing.
TEST(TraceDamage, NumbersThatAreNoneLeaveTheRestOfTheRecord) {
  const Trace trace =
      trace_of(with_events({op("a", 1,
                               R"(,"args":{"External id":18446744073709551615,"Sequence number":NaN,"x":-Infinity,)"
                               R"("Input Dims":[[99999999999999999999,2],[3]]})")}));
  EXPECT_EQ(dump(trace), "a 1 1  0 1000 1000 -1 -1 -1|[][ 3]|\n");
  EXPECT_TRUE(trace.warnings.empty());
}

TEST(TraceDamage, ManyDamagedRecordsAreCounted) {
  std::string text = in_trace(op("first", 0));
  for (int i = 0; i < 25; ++i) text += core::format(",{},{}", op("a\"b", 1), op("sound", 2));
  const Trace trace = trace_of(text + "]}");
  EXPECT_EQ(trace.events.size(), 26u);
  ASSERT_EQ(trace.warnings.size(), 11u);
  EXPECT_EQ(trace.warnings.back(), "15 more malformed records were skipped");
}

TEST(TraceDamage, DamageBeforeTheEventsIsSkipped) {
  const std::string text = core::format(R"({{"custom": "said "hi"", "traceEvents": [{}]}})", op("a", 1));
  const Trace trace = trace_of(text);
  EXPECT_EQ(names(trace), std::vector<std::string>{"a"});
  ASSERT_EQ(trace.warnings.size(), 1u);
  EXPECT_NE(trace.warnings[0].find("unexpected 'h' at byte 18"), std::string::npos) << trace.warnings[0];
}

TEST(TraceDamage, DamageAfterTheEventsLeavesThem) {
  const std::string start = in_trace(op("a", 1));
  const std::pair<const char*, std::size_t> tails[] = {{R"(], "x": "a"b"})", 11}, {R"(], 5})", 3}, {R"(], "x"})", 6}};
  for (const auto& [tail, wrong_at] : tails) {
    for (const std::size_t block : {std::size_t{5}, std::size_t{1} << 20}) {
      ReadOptions options;
      options.block = block;
      const Trace trace = trace_of(start + tail, options);
      EXPECT_EQ(names(trace), std::vector<std::string>{"a"});
      EXPECT_EQ(trace.warnings,
                std::vector<std::string>{core::format("what is behind the events cannot be read, from byte {} on",
                                                      start.size() + wrong_at)});
    }
  }
}

TEST(TraceDamage, DeepNestingIsDamageNotACrash) {
  for (const char open : {'[', '{'}) {
    const std::string deep = open == '[' ? std::string(100000, '[') : [] {
      std::string text;
      for (int i = 0; i < 100000; ++i) text += "{\"a\":";
      return text;
    }();
    const Trace trace = trace_of(in_trace(core::format("{},{{\"args\":{{\"x\":{}", op("a", 1), deep)));
    EXPECT_EQ(names(trace), std::vector<std::string>{"a"});
    EXPECT_FALSE(trace.warnings.empty());
  }
}

// A record that only the end of a block cut is not what the file's end cuts.
TEST(TraceDamage, ACutBehindTheEventsIsInsideNoRecord) {
  const std::string text = in_trace(op("a", 1)) + R"(], "traceName")";
  for (const std::size_t block : {std::size_t{7}, text.size() + 1}) {
    ReadOptions options;
    options.block = block;
    EXPECT_EQ(trace_of(text, options).warnings,
              std::vector<std::string>{
                  core::format("the file is cut: the text ends at byte {}; what came before was read", text.size())});
  }
}

// Whatever the byte where a file ends: either the events before it and one warning, or a reason.
TEST(TraceDamage, ACutAtEveryByte) {
  const std::string whole = gunzip(file_text(data_path("linear_32_64_eager.json.gz")));
  const std::size_t begin = whole.find("\"traceEvents\": [");
  const std::size_t end = whole.rfind(']');
  ASSERT_NE(begin, std::string::npos);
  const Trace all = trace_of(whole);
  std::size_t last_count = 0;
  const std::size_t step = FUSEDMLP_SANITIZED ? 7 : 1;
  for (std::size_t size = 0; size < whole.size(); size += step) {
    const Result<Trace> result = read_text(whole.substr(0, size));
    if (size <= begin + 15) {
      ASSERT_FALSE(result.ok()) << size;
      EXPECT_EQ(result.status().argument(), "path");
      continue;
    }
    ASSERT_TRUE(result.ok()) << size << " " << result.status().to_string();
    EXPECT_GE(result->events.size(), last_count) << size;
    last_count = result->events.size();
    if (size > end) {
      EXPECT_EQ(last_count, all.events.size()) << size;
    }
    if (whole.find_last_not_of(" \n", size) == whole.size() - 1 && whole[size - 1] == '}') continue;
    if (whole.find('}', size) == std::string::npos) continue;  // only white space is cut off
    ASSERT_EQ(result->warnings.size(), 1u) << size;
    EXPECT_NE(result->warnings[0].find("the file is cut: the text ends at byte " + std::to_string(size)),
              std::string::npos)
        << result->warnings[0];
  }
  EXPECT_EQ(last_count, all.events.size());
}

TEST(TraceDamage, ACutOfACompressedFileAtEveryByte) {
  const std::string whole = file_text(data_path("linear_32_64_eager.json.gz"));
  const std::string text = gunzip(whole);
  std::size_t last_count = 0;
  const std::size_t step = FUSEDMLP_SANITIZED ? 13 : 1;
  for (std::size_t size = 0; size < whole.size(); size += step) {
    const Result<Trace> result = read_text(whole.substr(0, size));
    if (!result.ok()) {
      EXPECT_EQ(result.status().argument(), "path");
      EXPECT_EQ(last_count, 0u);
      continue;
    }
    EXPECT_GE(result->events.size(), last_count) << size;
    last_count = result->events.size();
    ASSERT_FALSE(result->warnings.empty()) << size;
    EXPECT_NE(result->warnings.back().find("the compressed file ends early, at its byte " + std::to_string(size)),
              std::string::npos)
        << result->warnings.back();
  }
  EXPECT_EQ(last_count, trace_of(text).events.size());
}

TEST(TraceDamage, ACorruptByteOfACompressedFile) {
  const std::string whole = file_text(data_path("linear_32_64_eager.json.gz"));
  const std::size_t step = FUSEDMLP_SANITIZED ? 17 : 3;
  for (std::size_t at = 10; at < whole.size(); at += step) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    const Result<Trace> result = read_text(damaged);
    // The checksum at the end sees every change.
    if (result.ok()) {
      const bool told = std::any_of(result->warnings.begin(), result->warnings.end(), [](const std::string& text) {
        return text.starts_with("the compressed data is damaged") ||
               text.starts_with("the compressed file ends early");
      });
      EXPECT_TRUE(told) << at;
    } else {
      EXPECT_EQ(result.status().argument(), "path");
    }
  }
}

// Blocks and threads are about speed alone: cut anywhere, sound or damaged, the trace is the same.
TEST(TraceDamage, BlocksAndThreadsDoNotMatter) {
  const std::string whole = gunzip(file_text(data_path("linear_32_64_eager.json.gz")));
  std::mt19937 random(5);
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  constexpr std::string_view kBytes = "\"\\{}[],: \n0a\0";
  const int rounds = FUSEDMLP_SANITIZED ? 30 : 300;
  for (int round = 0; round < rounds; ++round) {
    std::string text = whole;
    for (int damage = 0; damage < round % 4; ++damage) {
      const std::size_t at = 600 + below(text.size() - 600);
      switch (below(3)) {
        case 0: text[at] = kBytes[below(kBytes.size())]; break;
        case 1: text.erase(at, below(300)); break;
        default: text.insert(at, text.substr(600 + below(text.size() - 600), below(300)));
      }
    }
    ReadOptions options;
    options.threads = 1;
    const Result<Trace> expected = read_text(text, options);
    for (const int threads : {1, 2, 3}) {
      options.threads = threads;
      options.block = 1 + below(3000);
      const Result<Trace> result = read_text(text, options);
      ASSERT_EQ(result.ok(), expected.ok()) << round;
      if (!result.ok()) {
        EXPECT_EQ(result.status().to_string(), expected.status().to_string());
        continue;
      }
      EXPECT_EQ(dump(*result), dump(*expected))
          << "round " << round << " threads " << threads << " block " << options.block;
      EXPECT_EQ(result->warnings, expected->warnings)
          << "round " << round << " threads " << threads << " block " << options.block;
    }
  }
}

TEST(TraceDamage, FindsWhereRecordsBegin) {
  const auto next = [](std::string_view text) {
    const char* resume = nullptr;
    const char* const found = find_record(text.data(), text.data() + text.size(), resume);
    return found != nullptr ? found - text.data() : -1 - (resume - text.data());
  };
  EXPECT_EQ(next(R"({"a":1},{"b":2})"), 8);
  EXPECT_EQ(next("x} \n,\t{ \"b\""), 6);
  EXPECT_EQ(next(R"("a":{"b":[{"c":1}]}, 5)"), -1 - 22);
  EXPECT_EQ(next("abc},  "), -1 - 3);  // undecided: more text may tell
  EXPECT_EQ(next("abc},{"), -1 - 3);
  const auto last = [](std::string_view text) {
    const char* const found = find_last_record(text.data(), text.data() + text.size());
    return found != nullptr ? found - text.data() : -1;
  };
  EXPECT_EQ(last(R"({"a":1},{"b":2},{"c":{"d":3}},{)"), 16);
  EXPECT_EQ(last(R"({"a":1})"), -1);
  EXPECT_EQ(last(R"(,{"a":1})"), -1);
  EXPECT_EQ(last(""), -1);
}

}  // namespace
}  // namespace fusedmlp::trace
