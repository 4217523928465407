// fusedmlp verify: every kernel against fp64, and exactly on integers.

#include <algorithm>
#include <cmath>
#include <optional>

#include "cli/command.h"
#include "cli/environment.h"
#include "core/dispatch.h"
#include "core/gpu_run.h"
#include "core/host_problem.h"
#include "core/numeric.h"
#include "fusedmlp/device.h"
#include "reference/error_bound.h"

namespace fusedmlp::cli {
namespace {

struct Options {
  std::vector<std::string> specs;
  std::string tokens = "1,5,33";
  std::string dtypes;
  std::string device = "cpu";
  std::string isas;
  std::vector<std::string> kernels;
  int threads = 0;
  std::uint64_t seed = 1;
  std::string json;
};

struct Row {
  MlpSpec spec;
  std::int64_t tokens = 0;
  std::string isa;  // "avx2", "sm_90"
  const char* kernel = "";
  const char* weights = "";  // "packed", "as given"
  core::Deviation deviation;
  double norm_limit = 0;
  std::int64_t exact_errors = 0;  // elements of the integer test that differ
  bool passed = false;
};

// The spec with an activation that is exact on integers in every precision.
MlpSpec exact_form(MlpSpec spec) {
  if (spec.activation != Activation::identity && spec.activation != Activation::relu) {
    spec.activation = Activation::relu2;
  }
  return spec;
}

// Inputs with their truths; what every kernel is held against.
struct Problem {
  Problem(const MlpSpec& s, core::Data data, std::int64_t n, std::uint64_t seed)
      : spec(s), tokens(n), weights(s, data, seed), x(core::make_input(s, n, data, seed)) {}

  core::Truth truth(core::Roundings roundings) const {
    return core::truth_with_bound(spec, weights.views(), x.data(), 0, tokens, roundings);
  }

  MlpSpec spec;
  std::int64_t tokens;
  core::HostWeights weights;
  core::AlignedBuffer x;
};

// y of one entry, [tokens, d_out].
core::AlignedBuffer run_entry(const core::KernelEntry& entry, const Problem& problem, const core::Query& query,
                              Executor& executor) {
  if (query.device.device.type == DeviceType::cuda) {
    return take(core::run_on_cuda(entry, query, problem.weights.views(), problem.x.data()), entry.name);
  }
  core::AlignedBuffer packed;
  if (query.packed) {
    packed =
        take(core::pack_weights(entry, problem.spec, problem.weights.views(), query.device, executor), entry.name);
  }
  const core::AlignedBuffer workspace(entry.workspace_bytes(query));
  core::AlignedBuffer y(static_cast<std::size_t>(problem.tokens * problem.spec.d_out) * size_of(problem.spec.dtype));
  std::fill_n(static_cast<std::byte*>(y.data()), y.size(), std::byte{0xff});  // NaN: an element not written is seen
  RunArgs args;
  args.x = problem.x.data();
  args.ldx = problem.spec.d_in;
  args.y = y.data();
  args.ldy = problem.spec.d_out;
  args.tokens = problem.tokens;
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.size();
  args.executor = &executor;
  require(entry.run({problem.spec, problem.weights.views(), packed.data()}, args, query.device), entry.name);
  return y;
}

std::int64_t differences(const Problem& problem, const core::Truth& truth, const core::AlignedBuffer& y) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < problem.tokens * problem.spec.d_out; ++i) {
    const double got = static_cast<double>(core::load(problem.spec.dtype, y.data(), i));
    count += got == truth.y[static_cast<std::size_t>(i)] ? 0 : 1;
  }
  return count;
}

// What every kernel of one spec and token count is held against.
struct Trial {
  Trial(const MlpSpec& spec, std::int64_t tokens, std::uint64_t seed)
      : real(spec, core::Data::normal, tokens, seed), exact(exact_form(spec), core::Data::integer, tokens, seed) {}

  Problem real, exact;
  core::Truth fused = real.truth(core::Roundings::fused);
  core::Truth layers = real.truth(core::Roundings::layer_by_layer);
  core::Truth exact_truth = exact.truth(core::Roundings::fused);
  double reference_norm = 0;  // of the same-precision reference on the CPU
};

// Every entry of the device, packed and not.
void verify_on(const Options& options, const Trial& trial, const DeviceInfo& device, Executor& executor,
               std::vector<Row>& rows) {
  const MlpSpec& spec = trial.real.spec;
  const std::int64_t tokens = trial.real.tokens;
  const bool cpu = device.device.type == DeviceType::cpu;
  const int threads = cpu ? executor.concurrency() : 1;
  const auto table = core::kernels(device.device.type);
  for (const core::KernelEntry& entry : table) {
    if (!options.kernels.empty() &&
        std::find(options.kernels.begin(), options.kernels.end(), entry.name) == options.kernels.end()) {
      continue;
    }
    const bool by_layers = &entry == &table.back();
    for (const bool packed : {true, false}) {
      if (packed && entry.layout == nullptr) continue;
      const auto query_of = [&](const Problem& problem) {
        core::Query query{problem.spec, tokens, device, threads, packed};
        if (!cpu) query.operands = core::dense_layout(spec);
        return query;
      };
      const core::Query query = query_of(trial.real), exact_query = query_of(trial.exact);
      if (!entry.unsupported(query).empty()) continue;
      Row row{spec, tokens, isa_text(device), entry.name, packed ? "packed" : "as given", {}, 0, 0, false};
      const core::AlignedBuffer y = run_entry(entry, trial.real, query, executor);
      row.deviation = core::compare(by_layers ? trial.layers : trial.fused, spec, y.data(), 0, tokens);
      row.norm_limit = core::norm_limit(spec, tokens, trial.reference_norm);
      if (entry.unsupported(exact_query).empty()) {
        row.exact_errors =
            differences(trial.exact, trial.exact_truth, run_entry(entry, trial.exact, exact_query, executor));
      }
      row.passed = row.deviation.norm <= row.norm_limit && row.deviation.worst_ratio <= 1 &&
                   row.deviation.kind_errors == 0 && row.exact_errors == 0;
      rows.push_back(row);
    }
  }
}

// One spec and token count on every description of the device.
void verify_case(const Options& options, const MlpSpec& spec, std::int64_t tokens,
                 const std::vector<DeviceInfo>& devices, Executor& executor, std::vector<Row>& rows) {
  Trial trial(spec, tokens, options.seed);
  const DeviceInfo host =
      devices.front().device.type == DeviceType::cpu ? devices.front() : describe_as(Isa::generic);
  const core::AlignedBuffer y =
      run_entry(core::reference_kernel(), trial.real, {spec, tokens, host, executor.concurrency(), false}, executor);
  trial.reference_norm = core::compare(trial.layers, spec, y.data(), 0, tokens).norm;
  for (const DeviceInfo& device : devices) verify_on(options, trial, device, executor, rows);
}

void print_rows(const std::vector<Row>& rows) {
  std::size_t width = 4;
  for (const Row& row : rows) width = std::max(width, to_string(row.spec).size());
  print(
      "error: ||y - y64|| / ||y64||; limit: twice the layer-by-layer reference's + eps (inf: too few values for\n"
      "a norm); worst: largest |y - y64| as a share of its derived bound; exact: elements wrong on integers\n\n");
  print("{:<{}}  {:>6}  {:<7}  {:<16}  {:<8}  {:>9}  {:>9}  {:>6}  {:>5}  {}\n", "spec", width, "tokens", "isa",
        "kernel", "weights", "error", "limit", "worst", "exact", "result");
  for (const Row& row : rows) {
    print("{:<{}}  {:>6}  {:<7}  {:<16}  {:<8}  {:>9.2e}  {:>9.2e}  {:>6.3f}  {:>5}  {}\n", to_string(row.spec),
          width, row.tokens, row.isa, row.kernel, row.weights, row.deviation.norm, row.norm_limit,
          row.deviation.worst_ratio, row.exact_errors, row.passed ? "pass" : "FAIL");
  }
}

void put_row(JsonWriter& json, const Row& row) {
  json.StartObject();
  put(json, "spec", to_string(row.spec));
  put(json, "tokens", row.tokens);
  put(json, "isa", row.isa);
  put(json, "kernel", row.kernel);
  put(json, "weights", row.weights);
  put(json, "error", row.deviation.norm);
  put(json, "error_limit", row.norm_limit);
  put(json, "worst_ratio", row.deviation.worst_ratio);
  put(json, "non_finite_errors", row.deviation.kind_errors);
  put(json, "exact_errors", row.exact_errors);
  put(json, "passed", row.passed);
  json.EndObject();
}

std::vector<Isa> parse_isas(std::string_view text) {
  std::vector<Isa> available = available_isas();
  if (text.empty()) return available;
  std::string names;
  for (const Isa isa : available) names += (names.empty() ? "" : ", ") + std::string(to_string(isa));
  std::vector<Isa> out;
  for (const std::string& part : split(text, ',')) {
    const auto found =
        std::find_if(available.begin(), available.end(), [&](const Isa isa) { return part == to_string(isa); });
    if (found == available.end()) {
      throw Failure(core::format("--isa: got \"{}\", this CPU has: {}", part, names));
    }
    out.push_back(*found);
  }
  return out;
}

int run(const Options& options) {
  const std::vector<std::int64_t> tokens = parse_numbers("--tokens", options.tokens, 1);
  const std::vector<MlpSpec> specs = parse_specs(options.specs, parse_dtypes(options.dtypes));
  const DeviceInfo device = take_device(options.device);  // a bad FUSEDMLP_ISA is heard of here
  const bool cpu = device.device.type == DeviceType::cpu;
  refuse_on_gpu(device, !options.isas.empty(), "--isa", "a GPU has one");
  refuse_on_gpu(device, options.threads > 0, "--threads", "a GPU's kernels take none of the host's");
  require_kernels(options.kernels, device.device.type);
  OutputFile target(options.json);
  std::vector<DeviceInfo> devices;
  if (cpu) {
    for (const Isa isa : parse_isas(options.isas)) devices.push_back(describe_as(isa));
  } else {
    devices.push_back(device);
  }
  const Threads executor(options.threads);
  const int threads = cpu ? executor.count() : 1;
  std::vector<Row> rows;
  for (const MlpSpec& spec : specs) {
    for (const std::int64_t count : tokens) {
      progress(core::format("verifying {}, {} tokens", to_string(spec), count));
      // Checks FUSEDMLP_KERNEL; which entry it forces does not matter where all of them are run.
      take(core::choose({spec, count, device, threads, cpu}));
      verify_case(options, spec, count, devices, executor.executor(), rows);
    }
  }
  progress("");
  if (rows.empty())
    throw Failure(core::format("nothing to check: the entries of --kernel do not run these specs on {}",
                               cpu ? "these instruction sets" : device.name));
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const Row& row) { return !row.passed; });
  if (target.prints_text()) {
    print_rows(rows);
    print("\n{} of {} passed\n", static_cast<std::ptrdiff_t>(rows.size()) - failed, rows.size());
  }
  if (target.wanted()) {
    rapidjson::StringBuffer buffer;
    JsonWriter json(buffer);
    json.StartObject();
    put_provenance(json, &device);
    put(json, "threads", threads);
    put(json, "seed", options.seed);
    put(json, "failed", failed);
    json.Key("results");
    json.StartArray();
    for (const Row& row : rows) put_row(json, row);
    json.EndArray();
    json.EndObject();
    target.write(buffer);
  }
  return failed == 0 ? kExitOk : kExitFailed;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("verify", "Check every kernel of a device against fp64; exit code 1 on failure");
  add_problem_options(*command, options->specs, options->tokens, options->dtypes);
  add_device_option(*command, options->device);
  command->add_option("--isa", options->isas, "generic, avx2, avx512, amx, with commas; default: all of this CPU")
      ->type_name("I,I..");
  add_kernel_option(*command, options->kernels, "Check this entry only; may be repeated");
  add_threads_option(*command, options->threads);
  command->add_option("--seed", options->seed, "Seed of the random weights and inputs")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer(
      "Examples:\n  fusedmlp verify geglu:65x127+bias --dtype fp32,bf16,fp16\n"
      "  fusedmlp verify gelu:64x256+bias --tokens 1,17 --json -\n"
      "  fusedmlp verify swiglu:512x1536,bf16 --device cuda");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
