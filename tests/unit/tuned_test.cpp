#include "core/tuned.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/device.h"
#include "core/dispatch.h"
#include "unit/fixtures.h"

namespace fusedmlp::core {
namespace {

namespace fs = std::filesystem;
using test::ScopedEnv;

// A folder of its own for a test, gone afterwards.
class TunedFile : public ::testing::Test {
 protected:
  TunedFile() {
    std::string name = (fs::temp_directory_path() / "fusedmlp_tuned_XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~TunedFile() override {
    fs::remove_all(folder_);
    reload_tuned();  // FUSEDMLP_TUNED is again what it was before the test
  }

  std::string path(const char* name = "tuned.json") const { return (folder_ / name).string(); }
  static void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

TunedKey key(const char* spec = "geglu:8x16,bf16", std::int64_t bucket = 64, int threads = 2) {
  return {"Test CPU", "avx2", threads, version(), spec, true, bucket};
}

TunedRecord record(std::int64_t tokens = 64) {
  return {tokens, "2026-01-31T12:00:00Z", {{"few", 20e-6}, {"many", 12.5e-6}}};
}

const char* const kText = R"({
 "schema": "fusedmlp-tuned-1",
 "measurements": [
  {
   "device": "Test CPU",
   "isa": "avx2",
   "threads": 2,
   "version": "VERSION",
   "spec": "geglu:8x16,bf16",
   "packed": true,
   "bucket": 64,
   "tokens": 48,
   "date": "2026-01-31T12:00:00Z",
   "us": {
    "few": 20.0,
    "many": 12.5
   }
  }
 ]
})";

std::string text_with(const std::string& from, const std::string& to) {
  std::string text = kText;
  text.replace(text.find("VERSION"), 7, version());
  if (!from.empty()) text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(TunedBucket, IsTheNextPowerOfTwo) {
  const std::pair<std::int64_t, std::int64_t> cases[] = {{1, 1},
                                                         {2, 2},
                                                         {3, 4},
                                                         {4, 4},
                                                         {5, 8},
                                                         {64, 64},
                                                         {65, 128},
                                                         {8191, 8192},
                                                         {8192, 8192},
                                                         {std::int64_t{1} << 62, std::int64_t{1} << 62},
                                                         {INT64_MAX, std::int64_t{1} << 62}};
  for (const auto& [tokens, bucket] : cases) EXPECT_EQ(token_bucket(tokens), bucket) << tokens;
}

TEST(TunedText, IsWrittenAndReadAgain) {
  const TunedTable table{{key(), record(48)}};
  EXPECT_EQ(tuned_text(table), text_with("", ""));
  const Result<TunedTable> again = parse_tuned(tuned_text(table));
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  ASSERT_EQ(again->size(), 1u);
  EXPECT_EQ(again->begin()->first, key());
  EXPECT_EQ(tuned_text(*again), tuned_text(table));
  EXPECT_EQ(again->begin()->second.fastest(), "many");
}

TEST(TunedText, SaysWhatIsWrong) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "not JSON: The document is empty. (byte 0)"},
      {"\xff", "not JSON: Invalid value. (byte 0)"},
      {text_with("", "").substr(0, 100), "not JSON: Missing a name for object member. (byte 100)"},
      {"[]", "no tuned table: \"schema\" must be \"fusedmlp-tuned-1\""},
      {"{}", "no tuned table: \"schema\" must be \"fusedmlp-tuned-1\""},
      {R"({"schema": 1})", "no tuned table: \"schema\" must be \"fusedmlp-tuned-1\""},
      {R"({"schema": "fusedmlp-tuned-2\n"})", "schema \"fusedmlp-tuned-2\\x0a\", accepted: \"fusedmlp-tuned-1\""},
      {R"({"schema": "fusedmlp-tuned-1"})", "\"measurements\" must be an array"},
      {R"({"schema": "fusedmlp-tuned-1", "measurements": [7]})", "measurement 1 must be an object"},
      {text_with("\"device\"", "\"gadget\""), "measurement 1: device must be a string"},
      {text_with("\"threads\": 2", "\"threads\": 0"), "measurement 1: threads must be a whole number above 0"},
      {text_with("\"threads\": 2", "\"threads\": 1e9"), "measurement 1: threads must be a whole number above 0"},
      {text_with("\"threads\": 2", "\"threads\": 99999999999"),
       "measurement 1: threads must be a whole number above 0"},
      {text_with("true", "1"), "measurement 1: packed must be true or false"},
      {text_with("\"bucket\": 64", "\"bucket\": 32"),
       "measurement 1: bucket must be the smallest power of two not below tokens"},
      {text_with("2026-01-31T", "yesterday..."), "measurement 1: date must be a date such as 2026-01-31T12:00:00Z"},
      {text_with("2026-01-31T", "2026-01-31\\u001b"),
       "measurement 1: date must be a date such as 2026-01-31T12:00:00Z"},
      {text_with("20.0", "-20.0"), "measurement 1: us must be numbers above 0"},
      {text_with("20.0", "\"20\""), "measurement 1: us must be numbers above 0"},
      {text_with("20.0", "1e400"), "not JSON: Number too big to be stored in double. (byte 279)"},
  };
  for (const auto& [text, message] : cases) {
    const Result<TunedTable> table = parse_tuned(text);
    ASSERT_FALSE(table.ok()) << text;
    EXPECT_EQ(table.status().message(), message);
  }
}

TEST(TunedText, DeepNestingIsRefusedWithoutASecondThought) {
  const std::string text(1 << 20, '[');
  EXPECT_FALSE(parse_tuned(text).ok());
}

TEST(TunedPath, FollowsTheEnvironment) {
  const auto path = [](const char* tuned, const char* cache, const char* home) {
    const ScopedEnv a("FUSEDMLP_TUNED", tuned), b("XDG_CACHE_HOME", cache), c("HOME", home);
    const TunedState state = read_tuned();
    EXPECT_FALSE(state.ignored.empty());
    return state.path.empty() ? state.ignored : state.path;
  };
  EXPECT_EQ(path("/nowhere/t.json", "/cache", "/house"), "/nowhere/t.json");
  EXPECT_EQ(path("t.json", "/cache", "/house"), "t.json");
  EXPECT_EQ(path("", "/cache", "/house"), "off: FUSEDMLP_TUNED says so");
  EXPECT_EQ(path("off", "/cache", "/house"), "off: FUSEDMLP_TUNED says so");
  EXPECT_EQ(path(nullptr, "/cache", "/house"), "/cache/fusedmlp/tuned.json");
  EXPECT_EQ(path(nullptr, "cache", "/house"), "/house/.cache/fusedmlp/tuned.json");
  EXPECT_EQ(path(nullptr, "", "/house"), "/house/.cache/fusedmlp/tuned.json");
  EXPECT_EQ(path(nullptr, nullptr, nullptr),
            "none: neither FUSEDMLP_TUNED nor XDG_CACHE_HOME nor HOME names a directory");
}

TEST_F(TunedFile, WhatCannotBeUsedIsIgnoredWithAReason) {
  const auto ignored = [](const std::string& path) {
    const TunedState state = read_tuned(path);
    EXPECT_TRUE(state.table.empty());
    return state.ignored;
  };
  EXPECT_EQ(ignored(path()), "no such file");
  EXPECT_FALSE(read_tuned(path()).exists);
  EXPECT_EQ(ignored(folder_.string()), "not a regular file");
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ignored(path("pipe")), "not a regular file");
  write(path(), "{");
  EXPECT_EQ(ignored(path()), "not JSON: Missing a name for object member. (byte 1)");
  fs::resize_file(path(), (16u << 20) + 1);
  EXPECT_EQ(ignored(path()), "16777217 bytes, at most 16777216 are read");
  EXPECT_TRUE(read_tuned(path()).exists);
  if (geteuid() != 0) {  // root reads everything
    fs::permissions(path(), fs::perms::none);
    EXPECT_EQ(ignored(path()), "Permission denied");
  }
}

TEST_F(TunedFile, IsMergedWithWhatIsThere) {
  const std::string nested = (folder_ / "a" / "b" / "tuned.json").string();
  std::string moved = "nothing";
  ASSERT_TRUE(merge_tuned(nested, {{key(), record(48)}, {key("gelu:8x16", 1), record(1)}}, nullptr).ok());
  TunedRecord later = record(64);
  later.seconds = {{"few", 1e-6}};
  ASSERT_TRUE(merge_tuned(nested, {{key(), later}, {key("gelu:8x16", 2), record(2)}}, &moved).ok());
  const TunedState state = read_tuned(nested);
  EXPECT_EQ(state.ignored, "");
  ASSERT_EQ(state.table.size(), 3u);
  EXPECT_EQ(state.table.at(key()).tokens, 64);
  EXPECT_EQ(state.table.at(key()).seconds.size(), 1u);
  EXPECT_EQ(state.table.at(key("gelu:8x16", 1)).tokens, 1);
  EXPECT_EQ(moved, "nothing");
}

TEST_F(TunedFile, WhatIsNoTableIsMovedAside) {
  for (const char* text : {"{\"broken", R"({"schema": "fusedmlp-tuned-2", "measurements": []})"}) {
    write(path(), text);
    std::string moved;
    ASSERT_TRUE(merge_tuned(path(), {{key(), record()}}, &moved).ok());
    EXPECT_NE(moved, "");
    EXPECT_EQ(read(path("tuned.json.bad")), text);
    EXPECT_EQ(read_tuned(path()).table.size(), 1u);
  }
}

TEST_F(TunedFile, ALinkStaysALink) {
  fs::create_symlink(path("real.json"), path());
  write(path("real.json"), text_with("", ""));
  ASSERT_TRUE(merge_tuned(path(), {{key("gelu:8x16"), record()}}, nullptr).ok());
  EXPECT_TRUE(fs::is_symlink(path()));
  EXPECT_EQ(read_tuned(path("real.json")).table.size(), 2u);
}

TEST_F(TunedFile, WritersAndReadersDoNotDisturbEachOther) {
  constexpr int kWriters = 4, kEach = FUSEDMLP_SANITIZED ? 5 : 20;
  std::atomic<bool> done{false};
  std::atomic<int> failed{0}, torn{0};
  std::thread reader([&] {
    while (!done) {
      const TunedState state = read_tuned(path());
      if (state.exists && !state.ignored.empty()) ++torn;
    }
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < kEach; ++i) {
        const TunedTable fresh{{key("gelu:8x16", std::int64_t{1} << i, w + 1), record(std::int64_t{1} << i)}};
        if (!merge_tuned(path(), fresh, nullptr).ok()) ++failed;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  reader.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(read_tuned(path()).table.size(), static_cast<std::size_t>(kWriters * kEach));
  EXPECT_EQ(files(), 2u) << "the table and its lock";
}

TEST_F(TunedFile, WhereNothingCanBeWrittenIsSaid) {
  const auto message = [](const Status& status) {
    EXPECT_EQ(status.argument(), "FUSEDMLP_TUNED");
    return status.message();
  };
  write(path("file"), "");
  const std::string below = path("file") + "/tuned.json";
  EXPECT_EQ(message(tuned_writable(below)), "cannot write " + below + ": Not a directory");
  EXPECT_EQ(message(merge_tuned(below, {}, nullptr)), "cannot write " + below + ": Not a directory");
  EXPECT_EQ(message(tuned_writable(folder_.string())), "cannot write " + folder_.string() + ": Is a directory");
  EXPECT_EQ(message(tuned_writable("")), "there is no tuned table to write: off: FUSEDMLP_TUNED says so");
  EXPECT_TRUE(tuned_writable(path()).ok());
  EXPECT_FALSE(fs::exists(path())) << "asking writes no table";
}

// ---- dispatch -------------------------------------------------------------------------------------------------

std::string always(const Query&) { return {}; }
template <int kNanoseconds>
Prediction takes(const Query&) {
  return {kNanoseconds * 1e-9, Bound::memory, Basis::modelled};
}

const KernelEntry kTable[] = {
    {"few", "", nullptr, always, nullptr, takes<1000>, nullptr},
    {"many", "", nullptr, always, nullptr, takes<2000>, nullptr},
    {"never", "", nullptr, [](const Query&) { return std::string("needs AMX"); }, nullptr, takes<10>, nullptr},
    {"last", "", nullptr, always, nullptr, takes<3000>, nullptr},
};

class TunedDispatch : public ::testing::Test {
 protected:
  std::vector<Candidate> list(std::int64_t tokens, const TunedRecord& tuned, const char* forced = nullptr) const {
    return candidates({spec_, tokens, device_, 2, true}, kTable, forced, &tuned).value();
  }
  static std::string chosen(const std::vector<Candidate>& list) {
    std::string name;
    for (const Candidate& c : list) name += c.chosen ? c.entry->name : "";
    return name;
  }

  MlpSpec spec_ = parse_spec("geglu:8x16,bf16").value();
  DeviceInfo device_ = test::make_device();
};

TEST_F(TunedDispatch, AMeasurementBeatsPredictions) {
  const auto measured = list(64, record(64));
  EXPECT_EQ(chosen(measured), "many");
  EXPECT_EQ(measured[0].prediction.seconds, 20e-6);
  EXPECT_EQ(measured[0].prediction.basis, Basis::measured);
  EXPECT_EQ(measured[1].prediction.basis, Basis::measured);
  EXPECT_EQ(measured[3].prediction.basis, Basis::modelled);
  EXPECT_EQ(reason(measured[0], measured), "slower: measured 20.0 us on 2026-01-31");
  EXPECT_EQ(reason(measured[1], measured), "tuned: measured 12.5 us on 2026-01-31");
  EXPECT_EQ(reason(measured[2], measured), "needs AMX");
  EXPECT_EQ(reason(measured[3], measured), "not measured, tuned for many");
}

TEST_F(TunedDispatch, OtherTokensOfTheBucketGetTheChoiceButNotTheTime) {
  const auto measured = list(40, record(64));
  EXPECT_EQ(chosen(measured), "many");
  EXPECT_EQ(measured[1].prediction.seconds, 2000 * 1e-9);
  EXPECT_EQ(measured[1].prediction.basis, Basis::modelled);
  EXPECT_EQ(reason(measured[1], measured), "tuned: measured 12.5 us at 64 tokens on 2026-01-31");
}

TEST_F(TunedDispatch, FusedmlpKernelBeatsAMeasurement) {
  const auto forced = list(64, record(64), "few");
  EXPECT_EQ(chosen(forced), "few");
  EXPECT_EQ(reason(forced[0], forced), "forced by FUSEDMLP_KERNEL");
  EXPECT_EQ(reason(forced[1], forced), "FUSEDMLP_KERNEL forces few");
}

TEST_F(TunedDispatch, AFastestThatCannotRunCountsForNothing) {
  for (const char* name : {"never", "from another build"}) {
    TunedRecord tuned = record(64);
    tuned.seconds[name] = 1e-9;
    const auto without = list(64, tuned);
    EXPECT_EQ(chosen(without), "few");
    EXPECT_EQ(without[1].prediction.basis, Basis::modelled);
    EXPECT_EQ(reason(without[0], without), "the fastest that can run it");
  }
}

TEST_F(TunedDispatch, AMeasurementHoldsForItsKeyAlone) {
  TunedState state;
  state.table[key()] = record(64);
  const Query query{spec_, 64, device_, 2, true};
  EXPECT_EQ(state.find(query), &state.table.begin()->second);
  EXPECT_NE(state.find({spec_, 33, device_, 2, true}), nullptr);
  EXPECT_EQ(state.find({spec_, 32, device_, 2, true}), nullptr);
  EXPECT_EQ(state.find({spec_, 0, device_, 2, true}), nullptr);
  EXPECT_EQ(state.find({spec_, 64, device_, 3, true}), nullptr);
  EXPECT_EQ(state.find({spec_, 64, device_, 2, false}), nullptr);
  const MlpSpec other = parse_spec("geglu:8x16,fp16").value();
  EXPECT_EQ(state.find({other, 64, device_, 2, true}), nullptr);
  DeviceInfo device = device_;
  device.isa = Isa::avx512;
  EXPECT_EQ(state.find({spec_, 64, device, 2, true}), nullptr);
  device = device_;
  device.name = "Another CPU";
  EXPECT_EQ(state.find({spec_, 64, device, 2, true}), nullptr);
  state.path = "t.json";
  EXPECT_EQ(state.describe(device_), "t.json: 1 measurement, 1 of this device");
  EXPECT_EQ(state.describe(device), std::string("t.json: 1 measurement, none of this device (Another CPU, avx2) "
                                                "with fusedmlp ") +
                                        version());
  TunedKey old = key();
  old.version = "0.0.1";
  TunedState stale;
  stale.table[old] = record(64);
  EXPECT_EQ(stale.find(query), nullptr);
}

// The whole way: a file, the environment, choose(). What is remembered on a thread falls with the table.
TEST_F(TunedFile, ChooseFollowsTheTable) {
  const ScopedEnv named("FUSEDMLP_TUNED", path().c_str()), none("FUSEDMLP_KERNEL", nullptr);
  const DeviceInfo& device = **cpu_device();
  const MlpSpec spec = parse_spec("gelu:64x256").value();
  const Query query{spec, 4, device, 1, true};
  reload_tuned();
  const std::string predicted = choose(query).value()->name;
  const std::string other = predicted == "reference" ? predicted : "reference";
  ASSERT_TRUE(merge_tuned(path(), {{tuned_key(query), {4, "2026-01-31T12:00:00Z", {{other, 1e-9}}}}}, nullptr).ok());
  EXPECT_EQ(choose(query).value()->name, predicted) << "read before it was asked to";
  reload_tuned();
  EXPECT_EQ(choose(query).value()->name, other);
  EXPECT_EQ(choose(query).value()->name, other);
  const auto list = candidates(query).value();
  EXPECT_NE(explain_text(query, list).find("tuned: measured 0.0 us on 2026-01-31"), std::string::npos);
  EXPECT_NE(explain_text(query, list).find("tuned table " + path() + ": 1 measurement, 1 of this device\n"),
            std::string::npos);
  {
    const ScopedEnv forced("FUSEDMLP_KERNEL", predicted.c_str());
    EXPECT_EQ(choose(query).value()->name, predicted);
  }
  write(path(), "damaged");
  reload_tuned();
  EXPECT_EQ(choose(query).value()->name, predicted);
  EXPECT_NE(explain_text(query, candidates(query).value()).find("tuned table " + path() + ": not used: not JSON"),
            std::string::npos);
}

TEST_F(TunedFile, ReloadingWhileOthersChoose) {
  const ScopedEnv named("FUSEDMLP_TUNED", path().c_str()), none("FUSEDMLP_KERNEL", nullptr);
  const MlpSpec spec = parse_spec("gelu:64x256").value();
  std::atomic<bool> done{false};
  std::atomic<int> failed{0};
  std::vector<std::thread> users;
  for (int t = 0; t < 3; ++t) {
    users.emplace_back([&] {
      while (!done) failed += choose({spec, 4, **cpu_device(), 1, true}).ok() ? 0 : 1;
    });
  }
  for (int i = 0; i < 20; ++i) reload_tuned();
  done = true;
  for (std::thread& user : users) user.join();
  EXPECT_EQ(failed, 0);
}

}  // namespace
}  // namespace fusedmlp::core
