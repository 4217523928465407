// fusedmlp tune: measures registry entries for the tuned table, which dispatch prefers to predictions.

#include "core/tune.h"
#include "cli/command.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cli {
namespace {

static_assert(core::kTuneMostTokens == 1024, "the default of --tokens is that of the C ABI");

struct Options {
  std::vector<std::string> specs;
  std::string tokens = "1,2,4,8,16,32,64,128,256,512,1024";
  std::string dtypes;
  std::string device = "cpu";
  int threads = 0;
  core::MeasureOptions measure;
  bool unpacked = false;
  bool dry_run = false;
  std::string json;
};

// The entry that prediction takes.
const core::EntryTimes& predicted(const core::TuneResult& result) {
  for (const core::EntryTimes& entry : result.entries) {
    if (entry.candidate.chosen) return entry;
  }
  return result.entries.back();
}

void print_result(const core::TuneResult& result) {
  const std::string& fastest = result.record.fastest();
  const double seconds = result.record.seconds.at(fastest);
  const core::EntryTimes& model = predicted(result);
  const std::string beside =
      model.candidate.entry->name == fastest
          ? "as predicted"
          : core::format("predicted {}, {}", model.candidate.entry->name, format_seconds(model.median()));
  print("{:<36} {:>7} {:>8}  {:<16} {:>11}  {}\n", result.key.spec, result.record.tokens, result.key.bucket, fastest,
        format_seconds(seconds), beside);
}

void put_result(JsonWriter& json, const core::TuneResult& result) {
  json.StartObject();
  put(json, "spec", result.key.spec);
  put(json, "tokens", result.record.tokens);
  put(json, "bucket", result.key.bucket);
  put(json, "fastest", result.record.fastest());
  put(json, "predicted", predicted(result).candidate.entry->name);
  json.Key("entries");
  json.StartArray();
  for (const core::EntryTimes& entry : result.entries) {
    json.StartObject();
    put(json, "name", entry.candidate.entry->name);
    if (entry.skipped.empty()) {
      put(json, "median_us", entry.median() * 1e6);
      put(json, "best_us", entry.best() * 1e6);
      put(json, "samples", entry.samples.size());
      put(json, "predicted_us", entry.candidate.prediction.seconds * 1e6);
    } else {
      put(json, "skipped", entry.skipped);
    }
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

int run(Options options) {
  const std::vector<std::int64_t> tokens = parse_numbers("--tokens", options.tokens, 1);
  const std::vector<MlpSpec> specs = parse_specs(options.specs, parse_dtypes(options.dtypes));
  const DeviceInfo device = take_device(options.device);
  const bool cpu = device.device.type == DeviceType::cpu;
  refuse_on_gpu(device, options.threads > 0, "--threads", "a GPU's kernels take none of the host's");
  refuse_on_gpu(device, options.unpacked, "--no-pack", "a GPU's kernels read the caller's weights anyway");
  options.measure.packed = cpu && !options.unpacked;
  OutputFile target(options.json);
  const std::string path = core::tuned().path;
  if (!options.dry_run) require(core::tuned_writable(path));  // heard of before minutes are spent
  const Threads executor(options.threads);
  const int threads = cpu ? executor.count() : 1;
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();
  put_provenance(json, &device);
  put(json, "threads", threads);
  put(json, "packed", options.measure.packed);
  json.Key("results");
  json.StartArray();
  const bool text = target.prints_text();
  if (text) {
    print("{}; medians of interleaved {}\n\n", device_text(device, threads),
          cpu ? "runs" : "CUDA graphs, weights cold");
    print("{:<36} {:>7} {:>8}  {:<16} {:>11}\n", "spec", "tokens", "bucket", "fastest", "median");
  }
  core::TunedTable table;
  require(core::tune(
      specs, tokens, device, executor.executor(), options.measure,
      [](const MlpSpec& spec, std::int64_t count) {
        progress(core::format("timing {}, {} tokens", to_string(spec), count));
      },
      [&](const core::TuneResult& result) {
        progress("");
        if (text) print_result(result);
        put_result(json, result);
        table[result.key] = result.record;
      }));
  json.EndArray();
  std::string moved;
  if (!options.dry_run) require(core::merge_tuned(path, table, &moved));
  json.Key("written");
  if (options.dry_run) {
    json.Null();
  } else {
    json.String(path.c_str());
  }
  json.EndObject();
  if (text) {
    if (!moved.empty()) print("\n{} was no tuned table ({}): moved to {}.bad\n", path, moved, path);
    print("\n{}\n", options.dry_run ? "nothing written (--dry-run)"
                                    : core::format("{} measurement{} written to {}", table.size(),
                                                   table.size() == 1 ? "" : "s", path));
  }
  if (target.wanted()) target.write(buffer);
  return kExitOk;
}

}  // namespace

void add_tune(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("tune", "Measure every kernel and remember the fastest for dispatch (FUSEDMLP_TUNED)");
  add_problem_options(*command, options->specs, options->tokens, options->dtypes);
  add_device_option(*command, options->device);
  add_threads_option(*command, options->threads);
  add_timing_options(*command, options->measure);
  command->add_flag("--no-pack", options->unpacked, "For calls without a packed copy of the weights (training)");
  command->add_flag("--dry-run", options->dry_run, "Measure and print, write no table");
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer(
      "A count stands for its bucket: the counts above the power of two below it, up to the next one (33 to 64).\n"
      "The table is used for the same device, instruction set, number of threads and version of fusedmlp only.\n\n"
      "Examples:\n  fusedmlp tune gelu:64x256+bias --tokens 1,16 --dry-run\n"
      "  fusedmlp tune swiglu:96x160 --tokens 1,8 --dtype fp32,bf16 --dry-run --json -");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
