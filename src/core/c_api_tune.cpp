// The C ABI of tune: a request as JSON, measurements as JSON.
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <algorithm>

#include "core/answer.h"
#include "core/device.h"
#include "core/format.h"
#include "core/text.h"
#include "core/tune.h"
#include "fusedmlp/c_api.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp::core {
namespace {

using Value = rapidjson::Value;

constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
constexpr int kMostThreads = 4096;

struct Request {
  std::vector<MlpSpec> specs;
  std::vector<std::int64_t> tokens;
  int threads = 0;  // 0: as many as default_executor() has
  bool dry_run = false;
  MeasureOptions measure;
};

Status wrong(std::string_view argument, std::string message) {
  return Status(StatusCode::invalid_argument, std::string(argument), std::move(message));
}

Status read_specs(const Value& value, Request& request) {
  if (!value.IsArray() || value.Empty()) return wrong("specs", "must be an array of at least one text");
  for (const Value& text : value.GetArray()) {
    if (!text.IsString()) return wrong("specs", "must be an array of texts");
    const Result<MlpSpec> spec = parse_spec({text.GetString(), text.GetStringLength()});
    if (!spec) return spec.status();
    request.specs.push_back(*spec);
  }
  return {};
}

Status read_tokens(const Value& value, Request& request) {
  const auto message = core::format("must be an array of whole numbers from 1 to {}", kMostTokens);
  if (!value.IsArray() || value.Empty()) return wrong("tokens", message);
  for (const Value& count : value.GetArray()) {
    if (!count.IsInt64() || count.GetInt64() < 1 || count.GetInt64() > kMostTokens) return wrong("tokens", message);
    request.tokens.push_back(count.GetInt64());
  }
  return {};
}

Status read_flag(std::string_view name, const Value& value, bool& flag) {
  if (!value.IsBool()) return wrong(name, "must be true or false");
  flag = value.GetBool();
  return {};
}

Status read_count(std::string_view name, const Value& value, int least, int most, int& count) {
  if (!value.IsInt() || value.GetInt() < least || value.GetInt() > most) {
    return wrong(name, core::format("must be a whole number from {} to {}", least, most));
  }
  count = value.GetInt();
  return {};
}

Status read_member(std::string_view name, const Value& value, Request& request) {
  if (name == "specs") return read_specs(value, request);
  if (name == "tokens") return read_tokens(value, request);
  if (name == "threads") return read_count(name, value, 0, kMostThreads, request.threads);
  if (name == "repeats") return read_count(name, value, 1, 1000000, request.measure.repeats);
  if (name == "packed") return read_flag(name, value, request.measure.packed);
  if (name == "dry_run") return read_flag(name, value, request.dry_run);
  if (name == "min_time") {
    if (!value.IsNumber() || !(value.GetDouble() >= 0) || value.GetDouble() > 3600) {
      return wrong(name, "must be seconds from 0 to 3600");
    }
    request.measure.min_time = value.GetDouble();
    return {};
  }
  return wrong("request",
               core::format("has no member {}, accepted: specs, tokens, threads, packed, dry_run, repeats, "
                            "min_time",
                            quoted(name)));
}

Result<Request> read_request(const char* text) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseIterativeFlag>(text);
  if (document.HasParseError()) {
    return wrong("request",
                 core::format("is not JSON: {} (byte {})", rapidjson::GetParseError_En(document.GetParseError()),
                              document.GetErrorOffset()));
  }
  if (!document.IsObject()) return wrong("request", "must be a JSON object");
  Request request;
  for (const auto& [name, value] : document.GetObject()) {
    if (Status status = read_member({name.GetString(), name.GetStringLength()}, value, request); !status)
      return status;
  }
  if (request.specs.empty()) return wrong("specs", "must be an array of at least one text");
  if (request.tokens.empty()) {
    for (std::int64_t count = 1; count <= kTuneMostTokens; count *= 2) request.tokens.push_back(count);
  }
  return request;
}

void write_result(Json& json, const TuneResult& result) {
  json.start_object();
  json.string("spec", result.key.spec);
  json.integer("tokens", result.record.tokens);
  json.integer("bucket", result.key.bucket);
  json.string("fastest", result.record.fastest());
  for (const EntryTimes& entry : result.entries) {
    if (entry.candidate.chosen) json.string("predicted", entry.candidate.entry->name);
  }
  json.key("us");
  json.start_object();
  for (const auto& [kernel, seconds] : result.record.seconds) json.number(kernel.c_str(), seconds * 1e6);
  json.end_object();
  json.end_object();
}

Status tune_into(Json& json, const char* text) {
  if (text == nullptr) return missing("request");
  const Result<Request> request = read_request(text);
  if (!request) return request.status();
  const std::string path = tuned().path;
  if (!request->dry_run) {
    if (Status status = tuned_writable(path); !status) return status;
  }
  const Result<const DeviceInfo*> device = cpu_device();
  if (!device) return device.status();
  const std::unique_ptr<Executor> own = request->threads > 0 ? make_executor(request->threads) : nullptr;
  Executor& executor = own != nullptr ? *own : default_executor();
  json.string("device_name", (*device)->name);
  json.string("isa", to_string((*device)->isa));
  json.integer("threads", executor.concurrency());
  json.boolean("packed", request->measure.packed);
  json.key("results");
  json.start_array();
  TunedTable table;
  const auto keep = [&](const TuneResult& result) {
    write_result(json, result);
    table[result.key] = result.record;
  };
  if (Status status = tune(request->specs, request->tokens, **device, executor, request->measure, nullptr, keep);
      !status) {
    return status;
  }
  json.end_array();
  std::string moved;
  if (!request->dry_run) {
    if (Status status = merge_tuned(path, table, &moved); !status) return status;
    reload_tuned();
    json.string("written", path);
  } else {
    json.null("written");
  }
  json.string("moved_aside", moved);
  return {};
}

}  // namespace
}  // namespace fusedmlp::core

extern "C" char* fusedmlp_tune_json(const char* request) {
  using namespace fusedmlp::core;
  return respond([&](Json& json) { return tune_into(json, request); });
}
