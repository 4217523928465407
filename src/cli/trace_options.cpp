#include "cli/trace_options.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

namespace fusedmlp::cli {
namespace {

// Whether the file starts as to_json() writes it. What cannot be read is left to analyze(), which says why. So is a
// pipe: what is read of it here would be missing there.
bool is_saved_analysis(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  std::ifstream file(path, std::ios::binary);
  std::string start(64, '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<std::size_t>(file.gcount()));
  std::erase_if(start, [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; });
  return start.starts_with(R"({"schema":"fusedmlp-)");
}

// The first of the options that only the reading of a trace heeds; empty: none is given.
std::string_view for_traces(const TraceOptions& options) {
  if (!options.target.empty()) return "--target";
  if (options.peak_flops > 0) return "--peak-flops";
  if (options.peak_bandwidth > 0) return "--peak-bandwidth";
  return options.python_functions ? "--python-functions" : "";
}

Analysis read_saved(const std::string& path, const TraceOptions& options) {
  if (const std::string_view option = for_traces(options); !option.empty()) {
    throw Failure(
        core::format("{}: '{}' is a saved analysis, which keeps the device and the events that it was made "
                     "with: analyze the trace again",
                     option, path));
  }
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return take(read_analysis(text), path);
}

}  // namespace

void add_trace_options(CLI::App& command, TraceOptions& options) {
  command.add_option("--target", options.target, "Predict for this GPU, such as H100; default: the trace's own")
      ->type_name("GPU");
  command.add_option("--peak-flops", options.peak_flops, "FLOP/s of the device in the MLPs' dtype, such as 989e12")
      ->type_name("X")
      ->check(CLI::PositiveNumber);
  command.add_option("--peak-bandwidth", options.peak_bandwidth, "Bytes/s of the device's memory, such as 4.8e12")
      ->type_name("Y")
      ->check(CLI::PositiveNumber);
  command.add_flag("--python-functions", options.python_functions, "Keep the trace's python_function events");
  command.add_option("--json", options.json, "Write JSON to FILE (- is stdout)")->type_name("FILE");
  command.add_option("--html", options.html, "Write one self-contained page to FILE (- is stdout)")
      ->type_name("FILE");
}

Analysis read(const std::string& given, const TraceOptions& options) {
  const std::string path = given == "-" ? "/dev/stdin" : given;
  if (is_saved_analysis(path)) return read_saved(path, options);
  AnalyzeOptions how;
  how.target = options.target;
  how.peak_flops = options.peak_flops;
  how.peak_bandwidth = options.peak_bandwidth;
  how.python_functions = options.python_functions;
  how.progress = [&](std::uint64_t done, std::uint64_t total) {
    const std::string all = total > 0 ? core::format(" of {}", format_bytes(static_cast<double>(total))) : "";
    progress(core::format("reading {}: {}{}", path, format_bytes(static_cast<double>(done)), all));
  };
  Result<Analysis> result = analyze(path, how);
  progress("");
  const std::string& argument = result.status().argument();
  if (!result && argument == "path") throw Failure(result.status().message());  // names the file
  if (!result && (argument == "target" || argument == "peak_flops" || argument == "peak_bandwidth")) {
    std::string option = "--" + argument;
    for (char& c : option) c = c == '_' ? '-' : c;
    throw Failure(core::format("{}: {}", option, result.status().message()));
  }
  return take(std::move(result), path);
}

TextOptions text_options() {
  TextOptions out;
  if (::isatty(STDOUT_FILENO) == 0) return out;
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) out.width = size.ws_col;
  const char* none = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  out.color = (none == nullptr || *none == '\0') && terminal != nullptr && std::strcmp(terminal, "dumb") != 0;
  return out;
}

}  // namespace fusedmlp::cli
