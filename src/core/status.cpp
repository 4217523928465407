#include "fusedmlp/status.h"

#include <cstddef>
#include <new>

namespace fusedmlp {
inline namespace v0 {
namespace {

// Never destroyed, for a Status may be read after static destructors ran; and no allocation, which could fail.
const std::string& empty() noexcept {
  alignas(std::string) static std::byte memory[sizeof(std::string)];
  static const std::string& the = *new (memory) std::string;
  return the;
}

}  // namespace

struct Status::Text {
  std::string argument;
  std::string message;
};

Status::Status(StatusCode code, std::string argument, std::string message) : code_(code) {
  if (argument.empty() && message.empty()) return;
  text_ = std::make_shared<const Text>(Text{std::move(argument), std::move(message)});
}

const std::string& Status::argument() const noexcept { return text_ ? text_->argument : empty(); }

const std::string& Status::message() const noexcept { return text_ ? text_->message : empty(); }

const char* to_string(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::ok: return "ok";
    case StatusCode::invalid_argument: return "invalid_argument";
    case StatusCode::unsupported: return "unsupported";
    case StatusCode::unavailable: return "unavailable";
    case StatusCode::out_of_memory: return "out_of_memory";
    case StatusCode::internal: return "internal";
  }
  return "unknown";
}

std::string Status::to_string() const {
  std::string text = fusedmlp::to_string(code_);
  for (const std::string* part : {&argument(), &message()}) {
    if (part->empty()) continue;
    text += ": ";
    text += *part;
  }
  return text;
}

}  // namespace v0
}  // namespace fusedmlp
