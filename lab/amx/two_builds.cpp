// Two builds of the library (one_build.cpp) and reading the weights alone, in turn in one process, in bursts of 5 ms:
// microseconds, medians of each round's ratio, and whether the results have the same bits.
//   g++ -std=c++20 -O2 lab/amx/two_builds.cpp -o two_builds
//   taskset -c 2,3 ./two_builds ./old.so ./new.so SECONDS [SPEC TOKENS]...
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

struct Build {
  explicit Build(const char* path) {
    void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      std::fprintf(stderr, "%s\n", dlerror());
      std::exit(2);
    }
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    };
    find(make, "lab_make");
    find(run, "lab_run");
    find(read, "lab_read");
    find(result, "lab_result");
    find(free, "lab_free");
  }
  void* (*make)(const char*, std::int64_t);
  int (*run)(void*);
  void (*read)(void*);
  const void* (*result)(void*, std::int64_t*);
  void (*free)(void*);
  void* lab = nullptr;
  std::vector<double> us = {};
};

// Microseconds a call in a burst; each call's go to `all`.
template <class Call>
double burst(const Call& call, std::vector<double>& all) {
  const auto start = Clock::now();
  double last = 0, now = 0;
  int calls = 0;
  do {
    call();
    now = since(start);
    all.push_back((now - last) * 1e6);
    last = now;
    ++calls;
  } while (now < 0.005);
  return now / calls * 1e6;
}

bool compare(Build (&builds)[2], const char* spec, std::int64_t tokens, double seconds) {
  for (Build& b : builds) {
    b.lab = b.make(spec, tokens);
    b.us.clear();
    if (b.lab == nullptr || !b.run(b.lab) || !b.run(b.lab)) return false;
  }
  std::int64_t bytes = 0;
  const void* first = builds[0].result(builds[0].lab, &bytes);
  const bool same = std::memcmp(first, builds[1].result(builds[1].lab, &bytes), static_cast<std::size_t>(bytes)) == 0;
  std::vector<double> ratios, shares[2], reads, ignored;
  const auto start = Clock::now();
  for (int round = 0; round < 3 || since(start) < seconds; ++round) {
    double mean[2];
    for (const int i : {round % 2, 1 - round % 2}) {
      mean[i] = burst([&] { builds[i].run(builds[i].lab); }, builds[i].us);
    }
    reads.push_back(burst([&] { builds[1].read(builds[1].lab); }, ignored));
    ratios.push_back(mean[1] / mean[0]);
    for (int i = 0; i < 2; ++i) shares[i].push_back(reads.back() / mean[i]);
  }
  std::printf("%-24s %5lld:", spec, static_cast<long long>(tokens));
  for (const double share : {0.0, 0.25, 0.5}) {
    std::printf("  %8.1f %8.1f", quantile(builds[0].us, share), quantile(builds[1].us, share));
  }
  std::printf("  second/first %.3f (%.3f to %.3f), reading %.0f us: %.0f %%, %.0f %%, %s\n", quantile(ratios, 0.5),
              quantile(ratios, 0.25), quantile(ratios, 0.75), quantile(reads, 0.5), 100 * quantile(shares[0], 0.5),
              100 * quantile(shares[1], 0.5), same ? "same bits" : "bits differ");
  std::fflush(stdout);
  for (Build& b : builds) b.free(b.lab);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  Build builds[] = {Build(argv[1]), Build(argv[2])};
  std::puts("                                   best of both       quarter            median");
  for (int i = 4; i + 1 < argc; i += 2) {
    if (!compare(builds, argv[i], std::atoll(argv[i + 1]), std::atof(argv[3]))) {
      std::fprintf(stderr, "%s, %s tokens: not run\n", argv[i], argv[i + 1]);
      return 1;
    }
  }
  return 0;
}
