// Reads one trace once and prints one line of JSON: seconds, peak resident memory, what was found.
//   fusedmlp_bench_trace_reading read|rapidjson|inflate PATH [THREADS]
// rapidjson: RapidJSON's SAX parser with a handler that keeps nothing, over a plain file: the floor of a reader that
// uses it. inflate: zlib alone, over a gzip file.
#include <rapidjson/filereadstream.h>
#include <rapidjson/reader.h>
#include <zlib.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "trace/reader.h"

namespace {

struct Outcome {
  bool ok = false;
  std::string what;          // why not
  std::uint64_t events = 0;  // kept, or values seen
};

Outcome read_trace(const char* path, int threads) {
  fusedmlp::trace::ReadOptions options;
  options.threads = threads;
  const fusedmlp::Result<fusedmlp::trace::Trace> trace = fusedmlp::trace::read(path, options);
  if (!trace) return {false, trace.status().to_string(), 0};
  if (!trace->warnings.empty()) return {false, trace->warnings.front(), trace->events.size()};
  return {true, "", trace->events.size()};
}

struct Nothing : rapidjson::BaseReaderHandler<rapidjson::UTF8<>, Nothing> {
  std::uint64_t values = 0;
  bool Default() {
    ++values;
    return true;
  }
};

Outcome read_rapidjson(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return {false, "cannot be opened", 0};
  std::vector<char> buffer(1 << 20);
  rapidjson::FileReadStream stream(file, buffer.data(), buffer.size());
  Nothing nothing;
  rapidjson::Reader reader;
  const bool ok = !reader.Parse<rapidjson::kParseNumbersAsStringsFlag>(stream, nothing).IsError();
  std::fclose(file);
  return {ok, ok ? "" : "RapidJSON found an error", nothing.values};
}

Outcome inflate_all(const char* path) {
  gzFile file = gzopen(path, "rb");
  if (file == nullptr) return {false, "cannot be opened", 0};
  gzbuffer(file, 1 << 18);
  std::vector<char> buffer(1 << 20);
  std::uint64_t bytes = 0;
  int got = 0;
  while ((got = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0)
    bytes += static_cast<unsigned>(got);
  gzclose(file);
  return {got == 0, got == 0 ? "" : "zlib found an error", bytes};
}

// Linux's own count. getrusage()'s begins with that of the process that started this one.
double peak_mib() {
  std::FILE* status = std::fopen("/proc/self/status", "r");
  char line[256];
  double kib = 0;
  while (status != nullptr && std::fgets(line, sizeof line, status) != nullptr) {
    if (std::strncmp(line, "VmHWM:", 6) == 0) kib = std::atof(line + 6);
  }
  if (status != nullptr) std::fclose(status);
  return kib / 1024;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: %s read|rapidjson|inflate PATH [THREADS]\n", argv[0]);
    return 2;
  }
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = std::strcmp(argv[1], "read") == 0 ? read_trace(argv[2], argc == 4 ? std::atoi(argv[3]) : 0)
                          : std::strcmp(argv[1], "rapidjson") == 0 ? read_rapidjson(argv[2])
                                                                   : inflate_all(argv[2]);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!outcome.ok) {
    std::fprintf(stderr, "%s: %s\n", argv[2], outcome.what.c_str());
    return 1;
  }
  std::printf("{\"seconds\": %.3f, \"peak_mib\": %.1f, \"count\": %llu}\n", seconds, peak_mib(),
              static_cast<unsigned long long>(outcome.events));
  return 0;
}
