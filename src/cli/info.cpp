// fusedmlp info: the devices as this library sees them, and on request what they really reach.

#include <cstdlib>
#include <optional>

#include "cli/command.h"
#include "cli/environment.h"
#include "cli/measure.h"
#include "core/kernel.h"
#include "core/tuned.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cli {
namespace {

constexpr double kGiga = 1e-9;

struct Options {
  bool measure = false;
  std::string json;
};

struct Constant {
  const char* key;
  const char* label;
  double per_core;
  double all;
};

// The rates that the cost model uses, in the order in which both forms of output show them.
std::vector<Constant> constants(const DeviceInfo& d) {
  const double cores = d.cores;
  std::vector<Constant> out;
  out.reserve(kDTypeCount + 4);
  static constexpr const char* kKeys[kDTypeCount] = {"flops_fp32", "flops_bf16", "flops_fp16"};
  static constexpr const char* kLabels[kDTypeCount] = {"fp32 GFLOP/s", "bf16 GFLOP/s", "fp16 GFLOP/s"};
  for (int i = 0; i < kDTypeCount; ++i) {
    out.push_back({kKeys[i], kLabels[i], d.flops_per_core[i], d.flops_per_core[i] * cores});
  }
  if (d.isa == Isa::amx) {
    const double tiles = d.tile_flops_per_core[static_cast<int>(DType::bf16)];
    out.push_back({"tile_flops_bf16", "AMX bf16 GFLOP/s", tiles, tiles * cores});
  }
  if (d.device.type == DeviceType::cpu) {
    out.push_back({"l2_bandwidth", "L2 read GB/s", d.l2_bandwidth_per_core, d.l2_bandwidth_per_core * cores});
    out.push_back({"l3_bandwidth", "L3 read GB/s", d.l3_bandwidth_per_core, d.l3_bandwidth});
  }
  out.push_back({"memory_bandwidth", "memory read GB/s", d.memory_bandwidth_per_core, d.memory_bandwidth});
  return out;
}

std::vector<Rate> measured_rates(const Measured& m) {
  std::vector<Rate> out(std::begin(m.flops), std::end(m.flops));
  if (m.tile_flops) out.push_back(*m.tile_flops);
  out.insert(out.end(), {m.l2, m.l3, m.memory});
  return out;
}

std::string isa_names(const std::vector<Isa>& list) {
  std::string out;
  for (const Isa isa : list) out += (out.empty() ? "" : ", ") + std::string(to_string(isa));
  return out;
}

void print_device(const DeviceInfo& d, const std::vector<Isa>& isas, const Measured* measured) {
  const bool cpu = d.device.type == DeviceType::cpu;
  print("{}: {}\n", to_string(d.device), d.name);
  if (cpu) {
    print("  instruction set  {} (available: {})\n", to_string(d.isa), isa_names(isas));
    if (!d.isa_note.empty()) print("  without AMX      {}\n", d.isa_note);
    print("  cores            {}\n", d.cores);
    print("  caches           L1 {} KiB and L2 {} KiB a core, L3 {} KiB\n", d.l1_bytes >> 10, d.l2_bytes >> 10,
          d.l3_bytes >> 10);
  } else {
    print("  SMs              {}\n", d.cores);
  }
  print("  {:<18} {:>10} {:>10}", "limits", cpu ? "per core" : "per SM", "all");
  if (measured != nullptr) print("   {:>10} {:>10}", "1 thread", core::format("{} threads", measured->threads));
  print("\n  {:<18} {:>21}{}\n", "", core::format("({})", to_string(d.basis)),
        measured != nullptr ? core::format("   {:>21}", "(measured now)") : "");
  const std::vector<Constant> rows = constants(d);
  const std::vector<Rate> rates = measured != nullptr ? measured_rates(*measured) : std::vector<Rate>();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    print("  {:<18} {:>10.1f} {:>10.1f}", rows[i].label, rows[i].per_core * kGiga, rows[i].all * kGiga);
    if (measured != nullptr) {
      print("   {:>10.1f} {:>10.1f}", rates[i].one_thread * kGiga, rates[i].all_threads * kGiga);
    }
    print("\n");
  }
  print("  {:<18} {:>10} {:>10.1f}\n", cpu ? "parallel start us" : "launch us", "", d.launch_seconds * 1e6);
  print("  kernels, in order of registration\n");
  for (const core::KernelEntry& entry : core::kernels(d.device.type)) {
    print("    {:<16} {}\n", entry.name, entry.summary);
  }
}

void put_device(JsonWriter& json, const DeviceInfo& d, const std::vector<Isa>& isas, const Measured* measured) {
  json.StartObject();
  put(json, "device", to_string(d.device));
  put(json, "name", d.name);
  if (d.device.type == DeviceType::cpu) {
    put(json, "isa", to_string(d.isa));
    put(json, "without_amx", d.isa_note);
    json.Key("isa_available");
    json.StartArray();
    for (const Isa isa : isas) json.String(to_string(isa));
    json.EndArray();
  }
  put(json, "cores", d.cores);
  put(json, "l1_bytes", d.l1_bytes);
  put(json, "l2_bytes", d.l2_bytes);
  put(json, "l3_bytes", d.l3_bytes);
  put(json, "basis", to_string(d.basis));
  put(json, "launch_seconds", d.launch_seconds);
  const std::vector<Constant> rows = constants(d);
  json.Key("limits");
  json.StartObject();
  for (const Constant& row : rows) {
    json.Key(row.key);
    json.StartObject();
    put(json, "per_core", row.per_core);
    put(json, "all", row.all);
    json.EndObject();
  }
  json.EndObject();
  if (measured != nullptr) {
    const std::vector<Rate> rates = measured_rates(*measured);
    json.Key("measured");
    json.StartObject();
    put(json, "threads", measured->threads);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      json.Key(rows[i].key);
      json.StartObject();
      put(json, "one_thread", rates[i].one_thread);
      put(json, "all_threads", rates[i].all_threads);
      json.EndObject();
    }
    put(json, "l2_buffer_bytes", measured->l2_bytes);
    put(json, "l3_buffer_bytes", measured->l3_bytes);
    put(json, "memory_buffer_bytes", measured->memory_bytes);
    json.EndObject();
  }
  json.Key("kernels");
  json.StartArray();
  for (const core::KernelEntry& entry : core::kernels(d.device.type)) {
    json.StartObject();
    put(json, "name", entry.name);
    put(json, "summary", entry.summary);
    put(json, "packs_weights", entry.layout != nullptr);
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

int run(const Options& options) {
  OutputFile target(options.json);
  const std::vector<Isa> isas = available_isas();
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();
  put_provenance(json);
  if (target.prints_text()) print("fusedmlp {}\n", version());
  json.Key("devices");
  json.StartArray();
  for (const Device device : devices()) {
    const DeviceInfo info = take(describe(device));
    std::optional<Measured> measured;
    if (options.measure && device.type == DeviceType::cpu) {
      measured = measure(info, [](std::string_view what) { progress(core::format("measuring {}", what)); });
      progress("");
    }
    const Measured* shown = measured ? &*measured : nullptr;
    put_device(json, info, isas, shown);
    if (target.prints_text()) print_device(info, isas, shown);
  }
  json.EndArray();
  const core::TunedState& table = core::tuned();
  const DeviceInfo cpu = take(describe(Device::cpu()));
  json.Key("tuned");
  json.StartObject();
  put(json, "path", table.path);
  put(json, "used", table.ignored.empty());
  put(json, "ignored", table.ignored);
  put(json, "measurements", table.table.size());
  put(json, "measurements_of_this_cpu", table.count(cpu));
  json.EndObject();
  if (target.prints_text()) print("tuned table\n  {}\n", table.describe(cpu));
  json.Key("environment");
  json.StartObject();
  if (target.prints_text()) print("environment\n");
  for (const Variable& variable : kVariables) {
    const char* value = std::getenv(variable.name);
    json.Key(variable.name);
    if (value != nullptr) {
      json.String(value);
    } else {
      json.Null();
    }
    if (target.prints_text()) {
      print("  {:<21} {:<10} {}\n", variable.name, value != nullptr ? value : "(not set)", variable.meaning);
    }
  }
  json.EndObject();
  json.EndObject();
  if (target.wanted()) target.write(buffer);
  return kExitOk;
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("info", "Devices, instruction sets, limits, kernels, environment variables");
  command->add_flag("--measure", options->measure, "Measure the CPU's arithmetic and read bandwidth now (seconds)");
  command->add_option("--json", options->json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command->footer("Examples:\n  fusedmlp info\n  fusedmlp info --measure --json -");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace fusedmlp::cli
