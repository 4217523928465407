// fusedmlp explain: which kernel would run, what it would take, and why not the others.

#include "cli/command.h"
#include "core/dispatch.h"
#include "core/execute.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cli {
namespace {

struct Options {
  std::vector<std::string> specs;
  std::string tokens = "1,16,256";
  std::string dtypes;
  std::string device = "cpu";
  std::string json;
};

void put_explanation(JsonWriter& json, const core::Query& query, const std::vector<core::Candidate>& list) {
  const core::Prediction limit = core::physical_limit(query.spec, query.tokens, query.device, query.threads);
  json.StartObject();
  put(json, "spec", to_string(query.spec));
  put(json, "tokens", query.tokens);
  put(json, "device", to_string(query.device.device));
  put(json, "threads", query.threads);
  if (query.device.device.type != DeviceType::cpu) {
    const core::Fusing gain = core::fusing(query, list);
    put(json, "library_us", gain.library_seconds * 1e6);
    put(json, "pays", gain.pays);
  }
  put(json, "limit_us", limit.seconds * 1e6);
  put(json, "limit_bound", core::to_string(limit.bound));
  json.Key("entries");
  json.StartArray();
  for (const core::Candidate& candidate : list) {
    const bool runs = candidate.unsupported.empty();
    json.StartObject();
    put(json, "name", candidate.entry->name);
    put(json, "chosen", candidate.chosen);
    put(json, "predicted_us", runs ? candidate.prediction.seconds * 1e6 : kNone);
    put(json, "basis", to_string(candidate.prediction.basis));
    put(json, "measured", candidate.measured);
    put(json, "bound", core::to_string(candidate.prediction.bound));
    put(json, "reason", core::reason(candidate, list));
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

int run(const Options& options) {
  const std::vector<std::int64_t> tokens = parse_numbers("--tokens", options.tokens, 0);
  const std::vector<MlpSpec> specs = parse_specs(options.specs, parse_dtypes(options.dtypes));
  const DeviceInfo info = take_device(options.device);
  OutputFile target(options.json);
  const bool cpu = info.device.type == DeviceType::cpu;  // a GPU's kernels read the weights as they are
  const int threads = core::threads_of(info);
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();
  put_provenance(json);
  json.Key("results");
  json.StartArray();
  for (const MlpSpec& spec : specs) {
    for (const std::int64_t count : tokens) {
      const core::Query query{spec, count, info, threads, cpu};
      const std::vector<core::Candidate> list = take(core::candidates(query));
      put_explanation(json, query, list);
      if (target.prints_text()) print("{}\n", core::explain_text(query, list));
    }
  }
  json.EndArray();
  put(json, "tuned", core::tuned().describe(info));
  json.EndObject();
  if (target.wanted()) target.write(buffer);
  return kExitOk;
}

}  // namespace

void add_explain(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("explain", "Which kernel would run, its predicted time, why not the others");
  add_problem_options(*command, options->specs, options->tokens, options->dtypes);
  add_device_option(*command, options->device);
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer(
      "Examples:\n  fusedmlp explain geglu:768x3072,bf16 --tokens 1,1024\n"
      "  fusedmlp explain gelu:1024x4096+bias relu2:768x3072 --dtype fp32,bf16 --json -");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
