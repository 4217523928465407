// The tuned table as JSON text. The text is anybody's: everything is checked, and nothing of it is printed unquoted.
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cctype>
#include <cmath>
#include <cstring>

#include "core/format.h"
#include "core/text.h"
#include "core/tuned.h"

namespace fusedmlp::core {
namespace {

using Value = rapidjson::Value;

constexpr double kMicro = 1e-6;
constexpr int kMostThreads = 1 << 16;

Status wrong(std::string message) { return Status(StatusCode::invalid_argument, "", std::move(message)); }

// Reads the members of one measurement; the first that is missing or wrong is remembered.
class Reader {
 public:
  Reader(const Value& object, std::size_t number) : object_(object), number_(number) {}

  std::string string(const char* name) {
    const Value* value = member(name);
    if (value == nullptr || !value->IsString()) return fail(name, "a string"), "";
    return {value->GetString(), value->GetStringLength()};
  }
  std::int64_t integer(const char* name, std::int64_t most) {
    const Value* value = member(name);
    if (value == nullptr || !value->IsInt64() || value->GetInt64() < 1 || value->GetInt64() > most) {
      return fail(name, "a whole number above 0"), 1;
    }
    return value->GetInt64();
  }
  bool boolean(const char* name) {
    const Value* value = member(name);
    if (value == nullptr || !value->IsBool()) return fail(name, "true or false"), false;
    return value->GetBool();
  }
  std::string date(const char* name) {
    constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
    std::string text = string(name);
    bool good = text.size() == kForm.size();
    for (std::size_t i = 0; good && i < kForm.size(); ++i) {
      good = kForm[i] == '0' ? std::isdigit(static_cast<unsigned char>(text[i])) != 0 : text[i] == kForm[i];
    }
    if (!good) fail(name, "a date such as 2026-01-31T12:00:00Z");
    return text;
  }
  std::map<std::string, double> times(const char* name) {
    std::map<std::string, double> out;
    const Value* value = member(name);
    if (value == nullptr || !value->IsObject() || value->MemberCount() == 0) {
      return fail(name, "an object with the microseconds of each kernel"), out;
    }
    for (const auto& [kernel, us] : value->GetObject()) {
      if (!us.IsNumber() || !(us.GetDouble() > 0) || !std::isfinite(us.GetDouble())) fail(name, "numbers above 0");
      out[{kernel.GetString(), kernel.GetStringLength()}] = us.IsNumber() ? us.GetDouble() * kMicro : 0;
    }
    return out;
  }

  void fail(const char* name, const char* accepted) {
    if (status_.ok()) status_ = wrong(core::format("measurement {}: {} must be {}", number_, name, accepted));
  }
  const Status& status() const { return status_; }

 private:
  const Value* member(const char* name) const {
    const auto found = object_.FindMember(name);
    return found == object_.MemberEnd() ? nullptr : &found->value;
  }

  const Value& object_;
  std::size_t number_;
  Status status_;
};

Status read_measurement(const Value& value, std::size_t number, TunedTable& table) {
  if (!value.IsObject()) return wrong(core::format("measurement {} must be an object", number));
  Reader reader(value, number);
  TunedKey key;
  TunedRecord record;
  key.device = reader.string("device");
  key.isa = reader.string("isa");
  key.threads = static_cast<int>(reader.integer("threads", kMostThreads));
  key.version = reader.string("version");
  key.spec = reader.string("spec");
  key.packed = reader.boolean("packed");
  record.tokens = reader.integer("tokens", std::int64_t{1} << 62);
  record.date = reader.date("date");
  record.seconds = reader.times("us");
  key.bucket = token_bucket(record.tokens);
  if (reader.integer("bucket", std::int64_t{1} << 62) != key.bucket) {
    reader.fail("bucket", "the smallest power of two not below tokens");
  }
  if (!reader.status().ok()) return reader.status();
  table[std::move(key)] = std::move(record);
  return {};
}

}  // namespace

Result<TunedTable> parse_tuned(std::string_view text) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(text.data(), text.size());
  if (document.HasParseError()) {
    return wrong(core::format("not JSON: {} (byte {})", rapidjson::GetParseError_En(document.GetParseError()),
                              document.GetErrorOffset()));
  }
  if (!document.IsObject() || !document.HasMember("schema") || !document["schema"].IsString()) {
    return wrong(core::format("no tuned table: \"schema\" must be \"{}\"", kTunedSchema));
  }
  const std::string_view schema(document["schema"].GetString(), document["schema"].GetStringLength());
  if (schema != kTunedSchema) {
    return wrong(core::format("schema {}, accepted: \"{}\"", quoted(schema), kTunedSchema));
  }
  if (!document.HasMember("measurements") || !document["measurements"].IsArray()) {
    return wrong("\"measurements\" must be an array");
  }
  TunedTable table;
  std::size_t number = 0;
  for (const Value& value : document["measurements"].GetArray()) {
    if (Status status = read_measurement(value, ++number, table); !status) return status;
  }
  return table;
}

std::string tuned_text(const TunedTable& table) {
  rapidjson::StringBuffer buffer;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> json(buffer);
  json.SetIndent(' ', 1);
  json.SetMaxDecimalPlaces(4);  // a tenth of a nanosecond
  const auto string = [&](const char* name, std::string_view value) {
    json.Key(name);
    json.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
  };
  json.StartObject();
  string("schema", kTunedSchema);
  json.Key("measurements");
  json.StartArray();
  for (const auto& [key, record] : table) {
    json.StartObject();
    string("device", key.device);
    string("isa", key.isa);
    json.Key("threads");
    json.Int(key.threads);
    string("version", key.version);
    string("spec", key.spec);
    json.Key("packed");
    json.Bool(key.packed);
    json.Key("bucket");
    json.Int64(key.bucket);
    json.Key("tokens");
    json.Int64(record.tokens);
    string("date", record.date);
    json.Key("us");
    json.StartObject();
    for (const auto& [kernel, seconds] : record.seconds) {
      json.Key(kernel.data(), static_cast<rapidjson::SizeType>(kernel.size()));
      json.Double(seconds / kMicro);
    }
    json.EndObject();
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace fusedmlp::core
