// fusedmlp bench: every registry entry on the same problem, interleaved, with the physical limit beside it.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "cli/command.h"
#include "cli/host_problem.h"
#include "core/dispatch.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLeastSample = 50e-6;  // short runs are timed several at once, as a clock reading costs 20-50 ns
constexpr double kSlow = 0.5;           // predicted seconds a run above which an entry is left out without --all

struct Options {
  std::vector<std::string> specs;
  std::string tokens = "1,16,64,256";
  std::string dtypes;
  std::vector<std::string> kernels;
  int threads = 0;
  int repeats = 15;
  double min_time = 0.1;
  bool cold = false;
  bool all = false;
  bool unpacked = false;
  std::string json;
};

// Weights and their packed copies, one or (cold) enough to fall out of the caches between uses.
struct Copy {
  HostWeights weights;
  core::AlignedBuffer packed;
};

// One entry's timing.
struct Contender {
  const core::Candidate* candidate = nullptr;
  std::string skipped;  // why it is not timed
  core::AlignedBuffer workspace;
  std::vector<double> samples;
  double spent = 0;
  int runs_a_sample = 1;
  std::size_t next_copy = 0;

  double median() const {
    std::vector<double> sorted = samples;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t n = sorted.size();
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
  }
  double best() const { return *std::min_element(samples.begin(), samples.end()); }
};

double weight_bytes(const MlpSpec& spec) {
  return static_cast<double>(weight_elements(spec)) * static_cast<double>(size_of(spec.dtype));
}

class Bench {
 public:
  Bench(const Options& options, const MlpSpec& spec, const DeviceInfo& device, const Threads& threads)
      : options_(options), spec_(spec), device_(device), threads_(threads) {
    copies_.push_back({HostWeights(spec, Data::normal, 1), {}});
    if (!options.cold) return;
    // Twice the last-level cache of weights between two uses of the same copy.
    const double last_level = static_cast<double>(std::max(device.l3_bytes, device.l2_bytes));
    const auto count = static_cast<std::size_t>(std::ceil(2 * last_level / weight_bytes(spec))) + 1;
    while (copies_.size() < count) copies_.push_back({copies_.front().weights.duplicate(), {}});
  }

  std::size_t copies() const { return copies_.size(); }

  void run(std::int64_t tokens, std::vector<core::Candidate>& list, std::vector<Contender>& contenders) {
    const core::Query query{spec_, tokens, device_, threads_.count(), !options_.unpacked};
    list = take(core::candidates(query));
    const core::AlignedBuffer x = make_input(spec_, tokens, Data::normal, 1);
    const core::AlignedBuffer y(static_cast<std::size_t>(std::max<std::int64_t>(tokens, 1) * spec_.d_out) *
                                size_of(spec_.dtype));
    args_ = {};
    args_.x = x.data();
    args_.ldx = spec_.d_in;
    args_.y = y.data();
    args_.ldy = spec_.d_out;
    args_.tokens = tokens;
    args_.executor = &threads_.executor();
    for (const core::Candidate& candidate : list) {
      if (!options_.kernels.empty() && std::find(options_.kernels.begin(), options_.kernels.end(),
                                                 candidate.entry->name) == options_.kernels.end()) {
        continue;
      }
      contenders.push_back(enter(query, candidate));
    }
    for (Contender& c : contenders) {
      if (c.skipped.empty()) warm_up(c);
    }
    bool more = true;
    while (more) {
      more = false;
      for (Contender& c : contenders) {
        if (finished(c)) continue;
        sample(c);
        more = true;
      }
    }
  }

 private:
  Contender enter(const core::Query& query, const core::Candidate& candidate) {
    Contender c;
    c.candidate = &candidate;
    if (!candidate.unsupported.empty()) {
      c.skipped = candidate.unsupported;
    } else if (!options_.all && !candidate.chosen && options_.kernels.empty() &&
               candidate.prediction.seconds > kSlow) {
      c.skipped =
          core::format("left out: predicted {} a run (--all runs it)", format_seconds(candidate.prediction.seconds));
    } else {
      c.workspace = core::AlignedBuffer(candidate.entry->workspace_bytes(query));
      if (candidate.entry->layout != nullptr && !options_.unpacked) {
        for (Copy& copy : copies_) {
          if (copy.packed.size() != 0) continue;
          copy.packed = pack_weights(*candidate.entry, spec_, copy.weights.views(), device_, threads_.executor());
        }
      }
    }
    return c;
  }

  double time(Contender& c, int runs) {
    args_.workspace = c.workspace.data();
    args_.workspace_bytes = c.workspace.size();
    const core::KernelEntry& entry = *c.candidate->entry;
    const auto begin = Clock::now();
    for (int i = 0; i < runs; ++i) {
      const Copy& copy = copies_[c.next_copy];
      c.next_copy = (c.next_copy + 1) % copies_.size();
      const void* packed = entry.layout != nullptr ? copy.packed.data() : nullptr;
      require(entry.run({spec_, copy.weights.views(), packed}, args_, device_), entry.name);
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  void warm_up(Contender& c) {
    double once = time(c, 1);
    if (once < kSlow) once = time(c, 1);
    c.runs_a_sample = static_cast<int>(std::clamp(std::ceil(kLeastSample / std::max(once, 1e-9)), 1.0, 10000.0));
  }

  void sample(Contender& c) {
    const double seconds = time(c, c.runs_a_sample);
    c.samples.push_back(seconds / c.runs_a_sample);
    c.spent += seconds;
  }

  // Slow entries stop at three samples, so that one of them does not decide how long the whole takes.
  bool finished(const Contender& c) const {
    if (!c.skipped.empty()) return true;
    const auto count = static_cast<int>(c.samples.size());
    if (count < std::min(3, options_.repeats)) return false;
    return (count >= options_.repeats && c.spent >= options_.min_time) ||
           c.spent >= std::max(20 * options_.min_time, 1.0);
  }

  const Options& options_;
  const MlpSpec& spec_;
  const DeviceInfo& device_;
  const Threads& threads_;
  std::vector<Copy> copies_;
  RunArgs args_;
};

struct Case {
  const MlpSpec& spec;
  std::int64_t tokens;
  core::Prediction limit;
  const std::vector<Contender>& contenders;

  // The reference's time, if it was measured.
  std::optional<double> baseline() const {
    const Contender& last = contenders.back();
    const bool is_reference = last.candidate->entry->name == core::reference_kernel().name;
    if (!is_reference || !last.skipped.empty()) return std::nullopt;
    return last.median();
  }
};

void print_case(const Case& c) {
  print("{}, {} token{}: {:.2f} MFLOP, weights {}, physical limit {} ({})\n", to_string(c.spec), c.tokens,
        c.tokens == 1 ? "" : "s", flops(c.spec, c.tokens) * 1e-6, format_bytes(weight_bytes(c.spec)),
        format_seconds(c.limit.seconds), core::to_string(c.limit.bound));
  print("  {:<16} {:>11} {:>11} {:>9} {:>11} {:>9} {:>10} {:>11}\n", "kernel", "median", "best", "GFLOP/s",
        "weight GB/s", "of limit", "x of ref.", "predicted");
  for (const Contender& e : c.contenders) {
    const char mark = e.candidate->chosen ? '*' : ' ';
    if (!e.skipped.empty()) {
      print("{} {:<16} {}\n", mark, e.candidate->entry->name, e.skipped);
      continue;
    }
    const double median = e.median();
    const std::optional<double> baseline = c.baseline();
    print("{} {:<16} {:>11} {:>11} {:>9.2f} {:>11.2f} {:>8.1f}% {:>10} {:>11}\n", mark, e.candidate->entry->name,
          format_seconds(median), format_seconds(e.best()), flops(c.spec, c.tokens) / median * 1e-9,
          weight_bytes(c.spec) / median * 1e-9, 100 * c.limit.seconds / median,
          baseline ? core::format("{:.2f}", *baseline / median) : "-",
          format_seconds(e.candidate->prediction.seconds));
  }
  print("\n");
}

void put_case(JsonWriter& json, const Case& c) {
  json.StartObject();
  put(json, "spec", to_string(c.spec));
  put(json, "tokens", c.tokens);
  put(json, "flops", flops(c.spec, c.tokens));
  put(json, "weight_bytes", weight_bytes(c.spec));
  put(json, "limit_us", c.limit.seconds * 1e6);
  put(json, "limit_bound", core::to_string(c.limit.bound));
  json.Key("entries");
  json.StartArray();
  for (const Contender& e : c.contenders) {
    json.StartObject();
    put(json, "name", e.candidate->entry->name);
    put(json, "chosen", e.candidate->chosen);
    if (!e.skipped.empty()) {
      put(json, "skipped", e.skipped);
    } else {
      const double median = e.median();
      put(json, "median_us", median * 1e6);
      put(json, "best_us", e.best() * 1e6);
      put(json, "samples", e.samples.size());
      put(json, "runs_a_sample", e.runs_a_sample);
      put(json, "gflops", flops(c.spec, c.tokens) / median * 1e-9);
      put(json, "weight_gb_per_s", weight_bytes(c.spec) / median * 1e-9);
      put(json, "share_of_limit", c.limit.seconds / median);
      put(json, "speedup_over_reference", c.baseline() ? *c.baseline() / median : kNone);
      put(json, "predicted_us", e.candidate->prediction.seconds * 1e6);
    }
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

int run(const Options& options) {
  const std::vector<std::int64_t> tokens = parse_numbers("--tokens", options.tokens, 1);
  const std::vector<MlpSpec> specs = parse_specs(options.specs, parse_dtypes(options.dtypes));
  require_cpu_kernels(options.kernels);
  OutputFile target(options.json);
  const DeviceInfo device = take(describe(Device::cpu()));
  const Threads threads(options.threads);
  for (const MlpSpec& spec : specs) {  // a FUSEDMLP_KERNEL that cannot run is heard of before anything is timed
    for (const std::int64_t count : tokens) {
      take(core::choose({spec, count, device, threads.count(), !options.unpacked}));
    }
  }
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();
  put_provenance(json);
  put(json, "threads", threads.count());
  put(json, "caches", options.cold ? "cold" : "warm");
  put(json, "packed", !options.unpacked);
  json.Key("results");
  json.StartArray();
  const bool text = target.prints_text();
  if (text) {
    print("{} ({}), {} thread{}; medians of interleaved runs; {}; * is what dispatch takes\n\n", device.name,
          to_string(device.isa), threads.count(), threads.count() == 1 ? "" : "s",
          options.cold ? "cold: copies of the weights in turn, twice the last-level cache apart"
                       : "warm: the same weights in every run");
  }
  for (const MlpSpec& spec : specs) {
    progress(core::format("preparing {}", to_string(spec)));
    Bench bench(options, spec, device, threads);
    for (const std::int64_t count : tokens) {
      progress(core::format("timing {}, {} tokens", to_string(spec), count));
      std::vector<core::Candidate> list;
      std::vector<Contender> contenders;
      bench.run(count, list, contenders);
      progress("");
      DeviceInfo limits = device;
      if (options.cold) limits.l2_bytes = limits.l3_bytes = 0;  // the weights come from memory, whatever their size
      const Case result{spec, count, core::physical_limit(spec, count, limits, threads.count()), contenders};
      if (text) print_case(result);
      put_case(json, result);
    }
  }
  json.EndArray();
  json.EndObject();
  if (target.wanted()) target.write(buffer);
  return kExitOk;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("bench", "Time every kernel on the CPU beside layer by layer and the limit");
  add_problem_options(*command, options->specs, options->tokens, options->dtypes);
  add_kernel_option(*command, options->kernels, "Time this entry only; may be repeated");
  add_threads_option(*command, options->threads);
  command->add_option("--repeats", options->repeats, "Samples of each entry, at least")
      ->type_name("N")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--min-time", options->min_time, "Seconds of each entry, at least")
      ->type_name("S")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command->add_flag("--cold", options->cold, "Rotate copies of the weights, so that none is found in a cache");
  command->add_flag("--no-pack", options->unpacked, "Kernels read the caller's weights instead of a packed copy");
  command->add_flag("--all", options->all, "Also time entries predicted to take more than 0.5 s a run");
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer(
      "Examples:\n  fusedmlp bench gelu:64x256+bias --tokens 1,16 --dtype fp32,bf16\n"
      "  fusedmlp bench swiglu:256x512 --tokens 4 --cold --threads 1 --json -");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
