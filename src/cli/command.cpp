#include "cli/command.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/kernel.h"
#include "core/text.h"
#include "cpu/thread_pool.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cli {
namespace {

std::string g_command_line;

std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

}  // namespace

void require(const Status& status, std::string_view about) {
  if (status.ok()) return;
  std::string line = about.empty() ? "" : core::format("{}: ", about);
  if (!status.argument().empty()) line += status.argument() + ": ";
  const bool usage = status.code() == StatusCode::invalid_argument || status.code() == StatusCode::unsupported ||
                     status.code() == StatusCode::unavailable;
  throw Failure(one_line(line + status.message()), usage ? kExitUsage : kExitFailed);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  while (true) {
    const std::size_t at = text.find(separator);
    out.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 1);
  }
}

std::vector<std::int64_t> parse_numbers(std::string_view option, std::string_view text, std::int64_t least) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  std::vector<std::int64_t> out;
  for (const std::string& part : split(text, ',')) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value < least || value > kMost) {
      throw Failure(core::format("{}: got \"{}\", accepted: whole numbers from {} to {} with commas between them",
                                 option, part, least, kMost));
    }
    out.push_back(value);
  }
  return out;
}

std::vector<DType> parse_dtypes(std::string_view text) {
  std::vector<DType> out;
  if (text.empty()) return out;
  for (const std::string& part : split(text, ',')) {
    Result<DType> dtype = parse_dtype(part);
    if (!dtype) throw Failure(core::format("--dtype: {}", dtype.status().message()));
    out.push_back(*dtype);
  }
  return out;
}

std::vector<MlpSpec> parse_specs(const std::vector<std::string>& texts, const std::vector<DType>& dtypes) {
  std::vector<MlpSpec> out;
  for (const std::string& text : texts) {
    MlpSpec spec = take(parse_spec(text));
    if (dtypes.empty()) out.push_back(spec);
    for (const DType dtype : dtypes) {
      spec.dtype = dtype;
      out.push_back(spec);
    }
  }
  return out;
}

void require_kernels(const std::vector<std::string>& names, DeviceType type) {
  const auto table = core::kernels(type);
  for (const std::string& name : names) {
    if (std::any_of(table.begin(), table.end(), [&](const auto& entry) { return name == entry.name; })) continue;
    std::string accepted;
    for (const core::KernelEntry& entry : table) accepted += (accepted.empty() ? "" : ", ") + std::string(entry.name);
    throw Failure(core::format("--kernel: got \"{}\", accepted: {}", name, accepted));
  }
}

void add_device_option(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "cpu, cuda or cuda:N")->type_name("DEVICE")->capture_default_str();
}

DeviceInfo take_device(const std::string& name) {
  const Result<Device> device = parse_device(name);
  if (!device) throw Failure(core::format("--device: {}", device.status().message()));
  Result<DeviceInfo> info = describe(*device);
  // What is wrong with the CPU's description is said of an environment variable.
  if (!info && device->type == DeviceType::cuda) throw Failure(core::format("--device: {}", info.status().message()));
  return take(std::move(info));
}

void refuse_on_gpu(const DeviceInfo& device, bool given, std::string_view option, std::string_view why) {
  if (!given || device.device.type == DeviceType::cpu) return;
  throw Failure(
      core::format("{}: accepted with --device cpu only, got {}: {}", option, to_string(device.device), why));
}

std::string isa_text(const DeviceInfo& device) {
  if (device.device.type == DeviceType::cpu) return to_string(device.isa);
  return core::format("sm_{}", device.compute_capability);
}

std::string device_text(const DeviceInfo& device, int threads) {
  const bool cpu = device.device.type == DeviceType::cpu;
  const int count = cpu ? threads : device.cores;
  return core::format("{} ({}), {} {}{}", device.name, isa_text(device), count, cpu ? "thread" : "SM",
                      count == 1 ? "" : "s");
}

Threads::Threads(int count) : own_(count > 0 ? cpu::make_thread_pool(count) : nullptr) {
  executor_ = own_ != nullptr ? own_.get() : &default_executor();
}

void put(JsonWriter& json, const char* key, double value) {
  json.Key(key);
  if (std::isfinite(value)) {
    json.Double(value);
  } else {
    json.Null();
  }
}

void put(JsonWriter& json, const char* key, std::string_view value) {
  json.Key(key);
  json.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}

void remember_command_line(int argc, char** argv) {
  g_command_line = "fusedmlp";
  for (int i = 1; i < argc; ++i) g_command_line += core::format(" {}", argv[i]);
}

void put_provenance(JsonWriter& json, const DeviceInfo* given) {
  put(json, "version", version());
  put(json, "command", g_command_line);
  put(json, "date", core::utc_now());
  put(json, "compiler", __VERSION__);
  const DeviceInfo device = given != nullptr ? *given : take(describe(Device::cpu()));
  put(json, "device", to_string(device.device));
  put(json, "device_name", device.name);
  put(json, "isa", isa_text(device));
  put(json, "cores", device.cores);
}

OutputFile::OutputFile(std::string path, const char* option) : path_(std::move(path)), option_(option) {
  if (path_.empty() || path_ == "-") return;
  std::error_code error;
  std::filesystem::path target(path_);
  if (std::filesystem::exists(target, error)) {
    target = std::filesystem::canonical(target, error);  // a link stays a link
    if (std::filesystem::is_directory(target, error)) {
      throw Failure(core::format("{}: cannot write {}: it is a directory", option_, path_));
    }
    if (!std::filesystem::is_regular_file(target, error)) {  // a device or a pipe cannot be replaced
      file_ = std::fopen(target.c_str(), "wb");
      if (file_ == nullptr)
        throw Failure(core::format("{}: cannot write {}: {}", option_, path_, std::strerror(errno)));
      return;
    }
    path_ = target.string();
  }
  temporary_ = core::format("{}.{}.tmp", path_, ::getpid());
  const int descriptor = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor >= 0) file_ = ::fdopen(descriptor, "wb");
  if (file_ == nullptr) {
    const int reason = errno;
    temporary_.clear();
    throw Failure(core::format("{}: cannot write {}: {}", option_, path_, std::strerror(reason)));
  }
}

OutputFile::~OutputFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (!temporary_.empty()) std::remove(temporary_.c_str());
}

void OutputFile::write(std::string_view text) {
  std::FILE* file = file_ != nullptr ? file_ : stdout;
  bool good = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  good = std::fputc('\n', file) != EOF && good;
  good = std::fflush(file) == 0 && good;
  if (good && file_ != nullptr) {
    good = std::fclose(file_) == 0;
    file_ = nullptr;
    if (good && !temporary_.empty()) good = std::rename(temporary_.c_str(), path_.c_str()) == 0;
    if (good) temporary_.clear();
  }
  if (!good) throw Failure(core::format("{}: cannot write {}: {}", option_, path_, std::strerror(errno)));
}

void add_problem_options(CLI::App& command, std::vector<std::string>& specs, std::string& tokens,
                         std::string& dtypes) {
  command.add_option("SPEC", specs, "MLPs, such as geglu:768x3072,bf16")->required()->type_name("");
  command.add_option("--tokens", tokens, "Token counts, with commas between them")
      ->type_name("N,N..")
      ->capture_default_str();
  command.add_option("--dtype", dtypes, "fp32, bf16, fp16, with commas; default: the spec's")->type_name("D,D..");
}

void add_kernel_option(CLI::App& command, std::vector<std::string>& kernels, const char* help) {
  command.add_option("--kernel", kernels, help)->type_name("NAME")->allow_extra_args(false);
}

void add_threads_option(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "Threads; default: as many as the process may use")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
}

void add_timing_options(CLI::App& command, core::MeasureOptions& measure) {
  command.add_option("--repeats", measure.repeats, "Samples of each entry, at least")
      ->type_name("N")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command.add_option("--min-time", measure.min_time, "Seconds of each entry, at least")
      ->type_name("S")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
}

void progress(std::string_view line) {
  if (::isatty(STDERR_FILENO) != 0) std::fputs(core::format("\r\033[K{}", line).c_str(), stderr);
}

std::string format_bytes(double bytes) {
  if (bytes >= 1e9) return core::format("{:.2f} GB", bytes * 1e-9);
  if (bytes >= 1e6) return core::format("{:.2f} MB", bytes * 1e-6);
  return core::format("{:.1f} kB", bytes * 1e-3);
}

std::string format_seconds(double seconds) {
  if (seconds >= 1) return core::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return core::format("{:.3f} ms", seconds * 1e3);
  return core::format("{:.2f} us", seconds * 1e6);
}

}  // namespace fusedmlp::cli
