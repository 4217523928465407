// What the subcommands share: how they fail, how they read options, where their JSON goes.
#pragma once

#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <CLI/CLI.hpp>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/format.h"
#include "core/measure_entries.h"
#include "fusedmlp/plan.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/status.h"

namespace fusedmlp::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // a check failed, or this program or machine did
inline constexpr int kExitUsage = 2;   // wrong input: options, specs, files, environment

// Ends the program with one line on stderr.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& line, int exit_code = kExitUsage)
      : std::runtime_error(line), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// The report, on stdout.
template <class... Args>
void print(fmt::format_string<Args...> pattern, Args&&... args) {
  std::fputs(core::vformat(pattern, fmt::make_format_args(args...)).c_str(), stdout);
}

// Throws the Failure that a Status asks for; `about` names what it concerns and may be empty.
void require(const Status& status, std::string_view about = {});

template <class T>
T take(Result<T> result, std::string_view about = {}) {
  require(result.status(), about);
  return std::move(result).value();
}

// "1,16,64" and the like. Errors name the option and say what is accepted.
std::vector<std::int64_t> parse_numbers(std::string_view option, std::string_view text, std::int64_t least);
std::vector<DType> parse_dtypes(std::string_view text);
std::vector<std::string> split(std::string_view text, char separator);

// The specs named on the command line, each once for every dtype of `dtypes` (none: the spec's own).
std::vector<MlpSpec> parse_specs(const std::vector<std::string>& texts, const std::vector<DType>& dtypes);

// Fails unless each name is a registry entry of the device.
void require_kernels(const std::vector<std::string>& names, DeviceType type);

// --device. Failures name it and say why it cannot be used.
void add_device_option(CLI::App& command, std::string& device);
DeviceInfo take_device(const std::string& name);
// Fails if `given`: the option means something on the CPU alone.
void refuse_on_gpu(const DeviceInfo& device, bool given, std::string_view option, std::string_view why);
// What code is chosen by: "avx512", or "sm_90" on a GPU.
std::string isa_text(const DeviceInfo& device);
// "NVIDIA H200 (sm_90), 132 SMs"; on the CPU with its threads.
std::string device_text(const DeviceInfo& device, int threads);

// The executor of --threads; 0 is the library's own.
class Threads {
 public:
  explicit Threads(int count);
  Executor& executor() const { return *executor_; }
  int count() const { return executor_->concurrency(); }

 private:
  std::unique_ptr<Executor> own_;
  Executor* executor_;
};

using JsonWriter = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void put(JsonWriter& json, const char* key, double value);  // null unless finite
void put(JsonWriter& json, const char* key, std::string_view value);
inline void put(JsonWriter& json, const char* key, const char* value) { put(json, key, std::string_view(value)); }
void put(JsonWriter& json, const char* key, std::integral auto value) {
  json.Key(key);
  if constexpr (std::same_as<decltype(value), bool>) {
    json.Bool(value);
  } else {
    json.Int64(static_cast<std::int64_t>(value));
  }
}
inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();  // put() writes null

// version, command line, date and device (none: the CPU): what a result needs to be made again.
void put_provenance(JsonWriter& json, const DeviceInfo* device = nullptr);
void remember_command_line(int argc, char** argv);

// --json FILE and the like: opened before the work starts, so that a file that cannot be written fails at once, and
// renamed into place when it is complete. "-" is stdout, and then nothing else is printed there. `option` is for
// messages.
class OutputFile {
 public:
  explicit OutputFile(std::string path, const char* option = "--json");
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  bool wanted() const { return !path_.empty(); }
  bool prints_text() const { return path_ != "-"; }
  void write(std::string_view text);
  void write(const rapidjson::StringBuffer& text) { write(std::string_view(text.GetString(), text.GetSize())); }

 private:
  std::string path_;
  const char* option_;
  std::string temporary_;  // empty: written directly (a device or a pipe)
  std::FILE* file_ = nullptr;
};

// SPEC, --tokens and --dtype, as every subcommand that takes MLPs has them.
void add_problem_options(CLI::App& command, std::vector<std::string>& specs, std::string& tokens,
                         std::string& dtypes);
// --kernel, of which `help` says what it does, and --threads.
void add_kernel_option(CLI::App& command, std::vector<std::string>& kernels, const char* help);
void add_threads_option(CLI::App& command, int& threads);
// --repeats and --min-time.
void add_timing_options(CLI::App& command, core::MeasureOptions& measure);

// A line about progress on stderr, where a person watches it.
void progress(std::string_view line);

std::string format_bytes(double bytes);
std::string format_seconds(double seconds);

// Each adds its subcommand to `app`. Its action, run after parsing, returns the exit code.
using Action = std::function<int()>;
void add_info(CLI::App& app, Action& action);
void add_explain(CLI::App& app, Action& action);
void add_explain_kernel(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_tune(CLI::App& app, Action& action);
void add_analyze(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);

}  // namespace fusedmlp::cli
