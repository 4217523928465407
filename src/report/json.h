// JSON members that hold text and numbers of a trace.
#pragma once

#include <rapidjson/document.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "fusedmlp/analysis.h"

namespace fusedmlp::report {

inline constexpr std::string_view kAnalysisSchema = "fusedmlp-analysis-1";
inline constexpr std::string_view kComparisonSchema = "fusedmlp-comparison-1";

using JsonBuffer = rapidjson::StringBuffer;

class Json {
 public:
  explicit Json(JsonBuffer& buffer) : writer_(buffer) {
    writer_.SetIndent(' ', 1);
    writer_.SetFormatOptions(rapidjson::kFormatSingleLineArray);
  }

  void key(const char* name) { writer_.Key(name); }
  void text(std::string_view value);  // made valid UTF-8
  void number(double value);          // null unless finite
  void null() { writer_.Null(); }

  void put(const char* name, std::string_view value) { key(name), text(value); }
  void put(const char* name, const char* value) { put(name, std::string_view(value)); }
  void put(const char* name, double value) { key(name), number(value); }
  void put(const char* name, std::int64_t value) { key(name), writer_.Int64(value); }
  void put(const char* name, bool value) { key(name), writer_.Bool(value); }
  template <class T>
  void put(const char* name, const std::optional<T>& value) {
    if (value) {
      put(name, T(*value));
    } else {
      key(name);
      null();
    }
  }

  void start_object() { writer_.StartObject(); }
  void end_object() { writer_.EndObject(); }
  void start_array() { writer_.StartArray(); }
  void end_array() { writer_.EndArray(); }

 private:
  rapidjson::PrettyWriter<JsonBuffer> writer_;
};

// An analysis out of its object; throws std::invalid_argument with what is wrong in words.
Analysis read_analysis_object(const rapidjson::Value& value);

// The objects of the schemas, as values.
void put_analysis(Json& json, const Analysis& analysis);
void put_comparison(Json& json, const Comparison& comparison);

}  // namespace fusedmlp::report
