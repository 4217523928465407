// Times every GPU entry that can run a shape: CUDA graph, weights cold in L2, medians, entries interleaved.
//   fusedmlp_bench_gpu_kernels [SPEC TOKENS]...          one JSON object a line; without arguments a fixed list
//   fusedmlp_bench_gpu_kernels --seams FILE [SPEC]...    every token count from 1 to 128 and around multiples of 64:
//       where dispatch's choice is slower than the fastest entry; all times to FILE, a table to stdout
//   --every N      seams: only every Nth token count
//   --copies N     at most N copies of the weights by turns: many tokens take long on all of small ones
//   --time S       seconds of samples of each entry, at least, and
//   --kernel NAME  this entry alone, or with more of them these: without --seams
//   fusedmlp_bench_gpu_kernels --profile [SPEC TOKENS]...  runs dispatch's choice twice, untimed, for a profiler
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/measure_entries.h"
#include "core/text.h"
#include "cuda/common/operands.h"
#include "fusedmlp/fusedmlp.h"
#include "gpu_require.h"

namespace {

using namespace fusedmlp;
using benchmarks::require;
using benchmarks::take;

const DeviceInfo& gpu() {
  static const DeviceInfo device = take(describe(Device::cuda()));
  return device;
}

std::unique_ptr<core::EntryTimer> timer_of(const MlpSpec& spec, const core::MeasureOptions& options) {
  return take(core::make_timer(spec, gpu(), default_executor(), options));
}

void bench(const MlpSpec& spec, std::int64_t tokens, const core::MeasureOptions& options) {
  const auto timer = timer_of(spec, options);
  for (const core::EntryTimes& entry : take(timer->run(tokens, take(core::candidates(timer->query(tokens)))))) {
    if (!entry.skipped.empty()) continue;
    std::printf(
        "{\"spec\": \"%s\", \"tokens\": %lld, \"device\": \"%s\", \"kernel\": \"%s\", \"chosen\": %s, "
        "\"us\": %.2f, \"predicted_us\": %.2f, \"tflops\": %.1f}\n",
        to_string(spec).c_str(), static_cast<long long>(tokens), gpu().name.c_str(), entry.candidate.entry->name,
        entry.candidate.chosen ? "true" : "false", entry.median() * 1e6, entry.candidate.prediction.seconds * 1e6,
        flops(spec, tokens) / entry.median() * 1e-12);
  }
  std::fflush(stdout);
}

// ---- seams

constexpr double kShare = 0.05;      // of the fastest entry's time that dispatch may lose,
constexpr double kSeconds = 0.3e-6;  // or this long: what runs differ by
constexpr double kHopeless = 4;      // layer by layer is timed where predicted within so many times of the fastest

struct Point {
  std::int64_t tokens = 0;
  std::string chosen, fastest;
  std::map<std::string, double> seconds;  // by entry

  double lost() const { return seconds.at(chosen) - seconds.at(fastest); }
  bool missed() const { return lost() > std::max(kShare * seconds.at(fastest), kSeconds); }
};

std::vector<std::int64_t> seam_tokens(int every) {
  std::vector<std::int64_t> all;
  for (std::int64_t m = 1; m <= 128; ++m) all.push_back(m);
  for (std::int64_t m = 192; m <= 4096; m += 64) {
    for (const std::int64_t near : {m - 1, m, m + 1}) all.push_back(near);
  }
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < all.size(); i += static_cast<std::size_t>(every)) out.push_back(all[i]);
  return out;
}

Point measure(core::EntryTimer& timer, std::int64_t tokens) {
  std::vector<core::Candidate> list = take(core::candidates(timer.query(tokens)));
  double least = 0;
  for (const core::Candidate& c : list) {
    if (c.unsupported.empty() && (least == 0 || c.prediction.seconds < least)) least = c.prediction.seconds;
  }
  const core::KernelEntry* layers = &core::kernels(DeviceType::cuda).back();
  std::erase_if(list, [&](const core::Candidate& c) {
    return c.entry == layers && !c.chosen && c.prediction.seconds > kHopeless * least;
  });
  Point point;
  point.tokens = tokens;
  for (const core::EntryTimes& entry : take(timer.run(tokens, list))) {
    if (!entry.skipped.empty()) continue;
    const std::string name = entry.candidate.entry->name;
    point.seconds[name] = entry.median();
    if (entry.candidate.chosen) point.chosen = name;
    if (point.fastest.empty() || point.seconds[name] < point.seconds[point.fastest]) point.fastest = name;
  }
  return point;
}

void write_points(std::FILE* file, const MlpSpec& spec, const std::vector<Point>& points, bool first) {
  std::fprintf(file, "%s{\"spec\": \"%s\", \"points\": [", first ? "" : ",\n", to_string(spec).c_str());
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Point& p = points[i];
    std::fprintf(file, "%s\n{\"tokens\": %lld, \"chosen\": \"%s\", \"us\": {", i == 0 ? "" : ",",
                 static_cast<long long>(p.tokens), p.chosen.c_str());
    const char* comma = "";
    for (const auto& [name, seconds] : p.seconds) {
      std::fprintf(file, "%s\"%s\": %.2f", comma, name.c_str(), seconds * 1e6);
      comma = ", ";
    }
    std::fputs("}}", file);
  }
  std::fputs("]}", file);
}

int seams(const std::string& path, std::vector<std::string> specs, int every, const std::string& command) {
  if (specs.empty()) {
    specs = {"geglu_tanh:768x3072,bf16", "gelu:768x3072+bias,bf16", "gelu:1024x4096+bias,bf16",
             "swiglu:2048x768,bf16",     "swiglu:4096x14336,bf16",  "gelu:128x512+bias,bf16"};
  }
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    std::fprintf(stderr, "--seams: cannot write %s\n", path.c_str());
    return 1;
  }
  std::fprintf(file, "{\"command\": \"%s\", \"version\": \"%s\", \"device\": \"%s\", \"date\": \"%s\",\n",
               command.c_str(), version(), gpu().name.c_str(), core::utc_now().c_str());
  std::fprintf(file, "\"accepted\": \"the fastest entry's time + max(%g %%, %g us)\", \"results\": [\n", kShare * 100,
               kSeconds * 1e6);
  core::MeasureOptions quick, careful;
  quick.repeats = 3;
  quick.min_time = 0;
  careful.repeats = 15;
  std::printf("%-26s %7s  %-16s %9s  %-16s %9s %7s\n", "spec", "tokens", "chosen", "us", "fastest", "us", "lost");
  for (std::size_t s = 0; s < specs.size(); ++s) {
    const MlpSpec spec = take(parse_spec(specs[s]));
    std::vector<Point> points;
    int misses = 0;
    double worst = 0;
    const auto timer = timer_of(spec, quick);
    const auto again = timer_of(spec, careful);
    for (const std::int64_t tokens : seam_tokens(every)) {
      Point point = measure(*timer, tokens);
      if (point.missed()) point = measure(*again, tokens);  // three samples scatter
      if (point.missed()) {
        ++misses;
        std::printf("%-26s %7lld  %-16s %9.2f  %-16s %9.2f %5.1f %%\n", specs[s].c_str(),
                    static_cast<long long>(tokens), point.chosen.c_str(), point.seconds[point.chosen] * 1e6,
                    point.fastest.c_str(), point.seconds[point.fastest] * 1e6,
                    100 * point.lost() / point.seconds[point.fastest]);
      }
      worst = std::max(worst, point.lost() / point.seconds[point.fastest]);
      points.push_back(std::move(point));
    }
    std::printf("%-26s %zu token counts, %d missed, worst %.1f %%\n", specs[s].c_str(), points.size(), misses,
                100 * worst);
    std::fflush(stdout);
    write_points(file, spec, points, s == 0);
  }
  std::fputs("\n]}\n", file);
  return std::fclose(file) == 0 ? 0 : 1;
}

void profile(const MlpSpec& spec, std::int64_t tokens) {
  const auto rows = [&](std::int64_t width) {
    return take(cuda::DeviceMemory::allocate(static_cast<std::size_t>(tokens * width) * size_of(spec.dtype)));
  };
  auto weights = take(cuda::DeviceWeights::allocate(spec));
  const cuda::DeviceMemory x = rows(spec.d_in), y = rows(spec.d_out);
  require(weights.fill());
  require(cuda::fill_normal(spec.dtype, x.data(), tokens * spec.d_in, 1));
  const Plan plan = take(Plan::create(spec, weights.views(), Device::cuda()));
  for (int i = 0; i < 2; ++i) require(plan.run(x.data(), y.data(), tokens));
  std::printf("%s, %lld tokens\n", to_string(spec).c_str(), static_cast<long long>(tokens));
}

struct Case {
  const char* spec;
  std::int64_t tokens;
};
constexpr Case kCases[] = {
    {"geglu_tanh:768x3072,bf16", 1},   {"geglu_tanh:768x3072,bf16", 16},     {"geglu_tanh:768x3072,bf16", 64},
    {"geglu_tanh:768x3072,bf16", 256}, {"geglu_tanh:768x3072,bf16", 1024},   {"geglu_tanh:768x3072,bf16", 8192},
    {"gelu:768x3072+bias,bf16", 8192}, {"gelu:1024x4096+bias,bf16", 8192},   {"gelu:4096x4096+bias,bf16", 1024},
    {"swiglu:4096x14336,bf16", 1},     {"swiglu:4096x14336,bf16", 16},       {"swiglu:4096x14336,bf16", 1024},
    {"swiglu:4096x14336,bf16", 8192},  {"geglu_tanh:2048x16384,bf16", 8192}, {"swiglu:2048x768,bf16", 8192},
    {"gelu:768x3072+bias,fp32", 1024},
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> rest;
  std::string path, command = "fusedmlp_bench_gpu_kernels";
  int every = 1;
  bool profiled = false;
  core::MeasureOptions options;
  options.min_time = 0.06;
  for (int i = 1; i < argc; ++i) {
    command.append(" ").append(argv[i]);
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--seams") == 0 && more) {
      path = argv[++i];
      command += " FILE";
    } else if (std::strcmp(argv[i], "--every") == 0 && more) {
      every = std::max(1, std::atoi(argv[++i]));
      command.append(" ").append(std::to_string(every));
    } else if (std::strcmp(argv[i], "--copies") == 0 && more) {
      options.most_copies = std::max(1, std::atoi(argv[++i]));
    } else if (std::strcmp(argv[i], "--time") == 0 && more) {
      options.min_time = std::atof(argv[++i]);
    } else if (std::strcmp(argv[i], "--kernel") == 0 && more) {
      options.kernels.emplace_back(argv[++i]);
    } else if (std::strcmp(argv[i], "--profile") == 0) {
      profiled = true;
    } else {
      rest.emplace_back(argv[i]);
    }
  }
  if (!path.empty()) return seams(path, rest, every, command);
  const auto look = [&](const MlpSpec& spec, std::int64_t tokens) {
    return profiled ? profile(spec, tokens) : bench(spec, tokens, options);
  };
  if (rest.empty()) {
    for (const Case& c : kCases) look(*parse_spec(c.spec), c.tokens);
  }
  for (std::size_t i = 0; i + 1 < rest.size(); i += 2) {
    look(take(parse_spec(rest[i])), std::atoll(rest[i + 1].c_str()));
  }
}
