// fusedmlp bench: every registry entry of a device on the same problem, interleaved, with the physical limit beside
// it. On a GPU in CUDA graphs with cold weights.

#include <optional>

#include "cli/command.h"
#include "cli/read_floor.h"
#include "core/cost_model.h"
#include "core/dispatch.h"
#include "core/measure_entries.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cli {
namespace {

struct Options {
  std::vector<std::string> specs;
  std::string tokens = "1,16,64,256";
  std::string dtypes;
  std::string device = "cpu";
  int threads = 0;
  bool unpacked = false;
  core::MeasureOptions measure;
  std::string json;
};

struct Case {
  const MlpSpec& spec;
  std::int64_t tokens;
  DeviceType device;
  core::Prediction limit;
  const std::vector<core::EntryTimes>& entries;
  const std::optional<core::EntryTimes>& floor;  // of reading the weights alone

  // The reference's time, if it was measured.
  std::optional<double> baseline() const {
    const core::EntryTimes& last = entries.back();
    const bool is_reference = last.candidate.entry == &core::kernels(device).back();
    if (!is_reference || !last.skipped.empty()) return std::nullopt;
    return last.median();
  }
};

std::string why_skipped(const core::EntryTimes& entry) {
  return entry.skipped + (entry.too_slow ? " (--all runs it)" : "");
}

void print_case(const Case& c) {
  print("{}, {} token{}: {:.2f} MFLOP, weights {}, physical limit {} ({})\n", to_string(c.spec), c.tokens,
        c.tokens == 1 ? "" : "s", flops(c.spec, c.tokens) * 1e-6, format_bytes(core::weight_bytes(c.spec)),
        format_seconds(c.limit.seconds), core::to_string(c.limit.bound));
  print("  {:<16} {:>11} {:>11} {:>9} {:>11} {:>9} {:>10} {:>11}\n", "kernel", "median", "best", "GFLOP/s",
        "weight GB/s", "of limit", "x of ref.", "predicted");
  for (const core::EntryTimes& e : c.entries) {
    const char mark = e.candidate.chosen ? '*' : ' ';
    if (!e.skipped.empty()) {
      print("{} {:<16} {}\n", mark, e.candidate.entry->name, why_skipped(e));
      continue;
    }
    const double median = e.median();
    const std::optional<double> baseline = c.baseline();
    print("{} {:<16} {:>11} {:>11} {:>9.2f} {:>11.2f} {:>8.1f}% {:>10} {:>11}\n", mark, e.candidate.entry->name,
          format_seconds(median), format_seconds(e.best()), flops(c.spec, c.tokens) / median * 1e-9,
          core::weight_bytes(c.spec) / median * 1e-9, 100 * c.limit.seconds / median,
          baseline ? core::format("{:.2f}", *baseline / median) : "-",
          format_seconds(e.candidate.prediction.seconds));
  }
  if (c.floor) {
    print("  reading the weights alone, in turn with these: median {}, best {} ({:.2f} GB/s)",
          format_seconds(c.floor->median()), format_seconds(c.floor->best()),
          core::weight_bytes(c.spec) / c.floor->median() * 1e-9);
    for (const core::EntryTimes& e : c.entries) {
      if (e.candidate.chosen && e.skipped.empty()) {
        print("; {} reads at {:.1f}% of that", e.candidate.entry->name, 100 * c.floor->median() / e.median());
      }
    }
    print("\n");
  }
  print("\n");
}

void put_case(JsonWriter& json, const Case& c) {
  json.StartObject();
  put(json, "spec", to_string(c.spec));
  put(json, "tokens", c.tokens);
  put(json, "flops", flops(c.spec, c.tokens));
  put(json, "weight_bytes", core::weight_bytes(c.spec));
  put(json, "limit_us", c.limit.seconds * 1e6);
  put(json, "limit_bound", core::to_string(c.limit.bound));
  if (c.floor) put(json, "weights_read_us", c.floor->median() * 1e6);
  json.Key("entries");
  json.StartArray();
  for (const core::EntryTimes& e : c.entries) {
    json.StartObject();
    put(json, "name", e.candidate.entry->name);
    put(json, "chosen", e.candidate.chosen);
    if (!e.skipped.empty()) {
      put(json, "skipped", why_skipped(e));
    } else {
      const double median = e.median();
      put(json, "median_us", median * 1e6);
      put(json, "best_us", e.best() * 1e6);
      put(json, "samples", e.samples.size());
      put(json, "runs_a_sample", e.runs_a_sample);
      put(json, "gflops", flops(c.spec, c.tokens) / median * 1e-9);
      put(json, "weight_gb_per_s", core::weight_bytes(c.spec) / median * 1e-9);
      put(json, "share_of_limit", c.limit.seconds / median);
      if (c.floor) put(json, "share_of_weights_read", c.floor->median() / median);
      put(json, "speedup_over_reference", c.baseline() ? *c.baseline() / median : kNone);
      put(json, "predicted_us", e.candidate.prediction.seconds * 1e6);
    }
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

// Takes the floor out of the times, if it is among them.
std::optional<core::EntryTimes> take_floor(std::vector<core::EntryTimes>& entries,
                                           const core::KernelEntry* floor_entry) {
  if (entries.empty() || entries.front().candidate.entry != floor_entry) return std::nullopt;
  core::EntryTimes floor = std::move(entries.front());
  entries.erase(entries.begin());
  return floor;
}

int run(Options options) {
  const std::vector<std::int64_t> tokens = parse_numbers("--tokens", options.tokens, 1);
  const std::vector<MlpSpec> specs = parse_specs(options.specs, parse_dtypes(options.dtypes));
  const DeviceInfo device = take_device(options.device);
  const bool cpu = device.device.type == DeviceType::cpu;
  refuse_on_gpu(device, options.threads > 0, "--threads", "a GPU's kernels take none of the host's");
  refuse_on_gpu(device, options.unpacked, "--no-pack", "a GPU's kernels read the caller's weights anyway");
  options.measure.packed = cpu && !options.unpacked;
  options.measure.cold |= !cpu;
  require_kernels(options.measure.kernels, device.device.type);
  const core::KernelEntry* floor_entry = cpu ? &read_floor() : core::cuda_read_floor();
  if (!options.measure.kernels.empty()) options.measure.kernels.emplace_back(floor_entry->name);
  OutputFile target(options.json);
  const Threads executor(options.threads);
  const int threads = cpu ? executor.count() : 1;
  for (const MlpSpec& spec : specs) {  // a FUSEDMLP_KERNEL that cannot run is heard of before anything is timed
    for (const std::int64_t count : tokens) {
      take(core::choose({spec, count, device, threads, options.measure.packed}));
    }
  }
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();
  put_provenance(json, &device);
  put(json, "threads", threads);
  put(json, "caches", options.measure.cold ? "cold" : "warm");
  put(json, "packed", options.measure.packed);
  json.Key("results");
  json.StartArray();
  const bool text = target.prints_text();
  if (text) {
    print("{}; medians of interleaved {}; {}; * is what dispatch takes\n\n", device_text(device, threads),
          cpu ? "runs" : "CUDA graphs",
          !options.measure.cold ? "warm: the same weights in every run"
          : cpu                 ? "cold: copies of the weights in turn, twice the last-level cache apart"
                                : "cold: copies of the weights in turn, 200 MB apart");
  }
  for (const MlpSpec& spec : specs) {
    progress(core::format("preparing {}", to_string(spec)));
    const std::unique_ptr<core::EntryTimer> timer =
        take(core::make_timer(spec, device, executor.executor(), options.measure));
    for (const std::int64_t count : tokens) {
      progress(core::format("timing {}, {} tokens", to_string(spec), count));
      std::vector<core::Candidate> list = take(core::candidates(timer->query(count)));
      // One token's time is that of its weights on their way.
      if (count == 1 && (options.measure.packed || !cpu)) list.emplace(list.begin())->entry = floor_entry;
      std::vector<core::EntryTimes> entries = take(timer->run(count, list));
      const std::optional<core::EntryTimes> floor = take_floor(entries, floor_entry);
      progress("");
      DeviceInfo limits = device;
      if (options.measure.cold)
        limits.l2_bytes = limits.l3_bytes = 0;  // the weights come from memory, whatever their size
      const core::Prediction limit = core::physical_limit(spec, count, limits, threads);
      const Case result{spec, count, device.device.type, limit, entries, floor};
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
  CLI::App* command =
      app.add_subcommand("bench", "Time every kernel of a device beside layer by layer and the limit");
  add_problem_options(*command, options->specs, options->tokens, options->dtypes);
  core::MeasureOptions& measure = options->measure;
  add_device_option(*command, options->device);
  add_kernel_option(*command, measure.kernels, "Time this entry only; may be repeated");
  add_threads_option(*command, options->threads);
  add_timing_options(*command, measure);
  command->add_flag("--cold", measure.cold,
                    "Rotate copies of the weights, so that none is found in a cache (GPU: always)");
  command->add_flag("--no-pack", options->unpacked, "Kernels read the caller's weights instead of a packed copy");
  command->add_flag("--all", measure.all, "Also time entries predicted to take more than 0.5 s a run (GPU: 0.02 s)");
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer(
      "Examples:\n  fusedmlp bench gelu:64x256+bias --tokens 1,16 --dtype fp32,bf16\n"
      "  fusedmlp bench swiglu:256x512 --tokens 4 --cold --threads 1 --json -\n"
      "  fusedmlp bench geglu:768x3072,bf16 --device cuda");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
