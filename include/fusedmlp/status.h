// Status and Result: how every call of this library reports failure. The library never throws across
// this API, never prints and never aborts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace fusedmlp {
inline namespace v0 {

enum class StatusCode {
  ok,
  invalid_argument,  // the caller passed something wrong: see Status::argument()
  unsupported,       // well-formed, but no kernel or device here can do it
  unavailable,       // the device or driver is not there
  out_of_memory,
  internal,  // a defect of this library
};

const char* to_string(StatusCode code) noexcept;

// What went wrong: a code, the name of the offending argument (may be empty) and one sentence that says
// what came and what is accepted.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string argument, std::string message);

  bool ok() const noexcept { return code_ == StatusCode::ok; }
  explicit operator bool() const noexcept { return ok(); }
  StatusCode code() const noexcept { return code_; }
  const std::string& argument() const noexcept;
  const std::string& message() const noexcept;
  // "invalid_argument: tokens: must be >= 0, got -3"
  std::string to_string() const;

 private:
  struct Text;

  StatusCode code_ = StatusCode::ok;
  std::shared_ptr<const Text> text_;  // null when ok, so that success costs next to nothing
};

// A value or the Status that says why there is none. value() on a failed Result is undefined: test first.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {
    if (status_.ok()) status_ = Status(StatusCode::internal, "", "a Result was made from an ok Status");
  }

  bool ok() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return ok(); }
  const Status& status() const noexcept { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace v0
}  // namespace fusedmlp
