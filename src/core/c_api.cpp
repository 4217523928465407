#include "fusedmlp/c_api.h"

#include <cstdlib>
#include <string>

#include "core/answer.h"
#include "core/device.h"
#include "core/dispatch.h"
#include "core/execute.h"
#include "core/launches.h"
#include "fusedmlp/fusedmlp.h"

namespace {

using namespace fusedmlp;
using core::Json;
using core::missing;
using core::respond;

void write_spec(Json& json, const MlpSpec& spec) {
  json.string("spec", to_string(spec));
  json.string("form", form_name(spec.activation, spec.gated));
  json.integer("d_in", spec.d_in);
  json.integer("d_hidden", spec.d_hidden);
  json.integer("d_out", spec.d_out);
  json.string("activation", to_string(spec.activation));
  json.integer("activation_index", static_cast<int>(spec.activation));
  json.boolean("gated", spec.gated);
  json.string("gate_order", to_string(spec.gate_order));
  json.integer("gate_order_index", static_cast<int>(spec.gate_order));
  json.boolean("bias_gate", spec.bias_gate);
  json.boolean("bias_up", spec.bias_up);
  json.boolean("bias_down", spec.bias_down);
  json.string("dtype", to_string(spec.dtype));
  json.integer("dtype_index", static_cast<int>(spec.dtype));
  json.number("alpha", static_cast<double>(spec.alpha));
  json.number("limit", static_cast<double>(spec.limit));
  json.integer("weight_elements", weight_elements(spec));
  json.number("flops_per_token", flops(spec, 1));
}

void write_device(Json& json, const DeviceInfo& info) {
  json.start_object();
  json.string("device", to_string(info.device));
  json.string("name", info.name);
  if (info.device.type == DeviceType::cpu) {
    json.string("isa", to_string(info.isa));
  } else {
    json.null("isa");
  }
  json.integer("cores", info.cores);
  json.integer("l1_bytes", static_cast<std::int64_t>(info.l1_bytes));
  json.integer("l2_bytes", static_cast<std::int64_t>(info.l2_bytes));
  json.integer("l3_bytes", static_cast<std::int64_t>(info.l3_bytes));
  json.key("flops_per_core");
  json.start_object();
  for (int i = 0; i < kDTypeCount; ++i) json.number(to_string(static_cast<DType>(i)), info.flops_per_core[i]);
  json.end_object();
  json.number("l2_bandwidth_per_core", info.l2_bandwidth_per_core);
  json.number("l3_bandwidth_per_core", info.l3_bandwidth_per_core);
  json.number("l3_bandwidth", info.l3_bandwidth);
  json.number("memory_bandwidth_per_core", info.memory_bandwidth_per_core);
  json.number("memory_bandwidth", info.memory_bandwidth);
  json.number("launch_seconds", info.launch_seconds);
  json.string("basis", to_string(info.basis));
  json.end_object();
}

void write_candidate(Json& json, const core::Query& query, const core::Candidate& candidate,
                     const std::vector<core::Candidate>& list) {
  const bool runs = candidate.unsupported.empty();
  json.start_object();
  json.string("name", candidate.entry->name);
  json.string("summary", candidate.entry->summary);
  if (runs) {
    json.number("predicted_us", candidate.prediction.seconds * 1e6);
  } else {
    json.null("predicted_us");
  }
  json.string("basis", to_string(candidate.prediction.basis));
  json.string("measured", candidate.measured);
  if (runs) {
    json.string("bound", core::to_string(candidate.prediction.bound));
  } else {
    json.null("bound");
  }
  json.boolean("chosen", candidate.chosen);
  json.string("reason", core::reason(candidate, list));
  json.key("launches");
  json.start_array();
  for (const core::LaunchRecord& record : core::launches(*candidate.entry, query)) json.text(core::to_string(record));
  json.end_array();
  json.end_object();
}

Status explain_into(Json& json, const char* spec_text, std::int64_t tokens, const char* device_text) {
  if (spec_text == nullptr) return missing("spec");
  if (device_text == nullptr) return missing("device");
  const Result<MlpSpec> spec = parse_spec(spec_text);
  if (!spec) return spec.status();
  const Result<Device> device = parse_device(device_text);
  if (!device) return device.status();
  if (tokens < 0) {
    return Status(StatusCode::invalid_argument, "tokens", "must be >= 0, got " + std::to_string(tokens));
  }
  const Result<const DeviceInfo*> info = core::find_device(*device);
  if (!info) return info.status();

  const core::PackedLayout* layout = core::packed_layout(device->type);
  const bool packed = layout != nullptr && layout->bytes(*spec, **info) > 0;
  const core::Query query{*spec, tokens, **info, core::threads_of(**info), packed};
  const Result<std::vector<core::Candidate>> list = core::candidates(query);
  if (!list) return list.status();
  const core::Prediction limit = core::physical_limit(*spec, tokens, **info, query.threads);

  json.string("spec", to_string(*spec));
  json.integer("tokens", tokens);
  json.string("device", to_string(*device));
  json.string("device_name", (*info)->name);
  json.integer("threads", query.threads);
  json.number("flops", flops(*spec, tokens));
  const core::Candidate& chosen = core::chosen(*list);
  json.string("chosen", chosen.entry->name);
  json.number("predicted_us", chosen.prediction.seconds * 1e6);
  if (device->type != DeviceType::cpu) {
    const core::Fusing gain = core::fusing(query, *list);
    json.number("library_us", gain.library_seconds * 1e6);
    json.boolean("pays", gain.pays);
  }
  json.number("limit_us", limit.seconds * 1e6);
  json.string("limit_bound", core::to_string(limit.bound));
  json.string("limit_basis", to_string(limit.basis));
  json.key("entries");
  json.start_array();
  for (const core::Candidate& candidate : *list) write_candidate(json, query, candidate, *list);
  json.end_array();
  json.string("tuned", core::tuned().describe(**info));
  return {};
}

}  // namespace

extern "C" {

const char* fusedmlp_version(void) { return version(); }

void fusedmlp_free(char* text) { std::free(text); }

char* fusedmlp_spec_json(const char* spec) {
  return respond([&](Json& json) -> Status {
    if (spec == nullptr) return missing("spec");
    const Result<MlpSpec> parsed = parse_spec(spec);
    if (!parsed) return parsed.status();
    write_spec(json, *parsed);
    return {};
  });
}

char* fusedmlp_info_json(void) {
  return respond([](Json& json) -> Status {
    json.string("version", version());
    json.key("devices");
    json.start_array();
    for (const Device device : devices()) {
      const Result<const DeviceInfo*> info = core::find_device(device);
      if (!info) return info.status();
      write_device(json, **info);
    }
    json.end_array();
    const Result<const DeviceInfo*> cpu = core::cpu_device();
    if (!cpu) return cpu.status();
    json.string("tuned", core::tuned().describe(**cpu));
    return {};
  });
}

char* fusedmlp_explain_json(const char* spec, int64_t tokens, const char* device) {
  return respond([&](Json& json) { return explain_into(json, spec, tokens, device); });
}

}  // extern "C"
