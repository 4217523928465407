// How the C ABI answers: one JSON object in memory that the caller frees.
#pragma once

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/guarded.h"
#include "fusedmlp/status.h"

namespace fusedmlp::core {

class Json {
 public:
  Json() { writer_.StartObject(); }

  void key(const char* name) { writer_.Key(name); }
  void string(const char* name, std::string_view value) {
    key(name);
    writer_.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
  }
  void integer(const char* name, std::int64_t value) {
    key(name);
    writer_.Int64(value);
  }
  void number(const char* name, double value) {  // JSON has no Inf and no NaN
    key(name);
    if (std::isfinite(value)) {
      writer_.Double(value);
    } else {
      writer_.Null();
    }
  }
  void boolean(const char* name, bool value) {
    key(name);
    writer_.Bool(value);
  }
  // Text that is JSON already.
  void raw(const char* name, std::string_view object) {
    key(name);
    writer_.RawValue(object.data(), object.size(), rapidjson::kObjectType);
  }
  // An element of an array.
  void text(std::string_view value) { writer_.String(value.data(), static_cast<rapidjson::SizeType>(value.size())); }
  void null(const char* name) {
    key(name);
    writer_.Null();
  }
  void start_object() { writer_.StartObject(); }
  void end_object() { writer_.EndObject(); }
  void start_array() { writer_.StartArray(); }
  void end_array() { writer_.EndArray(); }

  // The finished text in memory that fusedmlp_free releases; null when memory is out.
  char* release() {
    writer_.EndObject();
    char* text = static_cast<char*>(std::malloc(buffer_.GetSize() + 1));
    if (text != nullptr) std::memcpy(text, buffer_.GetString(), buffer_.GetSize() + 1);
    return text;
  }

 private:
  rapidjson::StringBuffer buffer_;
  rapidjson::Writer<rapidjson::StringBuffer> writer_{buffer_};
};

// fill(json) writes the members after "ok"; its Status decides which object it becomes.
template <class Fill>
char* respond(Fill&& fill) noexcept {
  try {
    Json json;
    json.boolean("ok", true);
    const Status status = core::guarded([&]() -> Status { return fill(json); });
    if (status.ok()) return json.release();
    Json failed;
    failed.boolean("ok", false);
    failed.string("code", to_string(status.code()));
    failed.string("argument", status.argument());
    failed.string("message", status.message());
    return failed.release();
  } catch (...) {  // memory for the message is out too
    return nullptr;
  }
}

inline Status missing(const char* argument) {
  return Status(StatusCode::invalid_argument, argument, "is null, accepted: a text");
}

}  // namespace fusedmlp::core
