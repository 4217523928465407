// Where the tuned table lies, and reading and replacing the file.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/format.h"
#include "core/tuned.h"

namespace fusedmlp::core {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostBytes = std::size_t{16} << 20;  // some 40,000 measurements

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  explicit operator bool() const { return number_ >= 0; }
  int get() const { return number_; }

 private:
  int number_;
};

Status cannot_write(const std::string& path, int error) {
  return Status(StatusCode::unavailable, "FUSEDMLP_TUNED",
                core::format("cannot write {}: {}", path, std::generic_category().message(error)));
}

// Everything in the file, or why it is not to be used.
Result<std::string> read_file(const std::string& path, bool& exists) {
  const auto refuse = [](std::string why) { return Status(StatusCode::unavailable, "", std::move(why)); };
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe is not waited for
  if (!file) {
    const int error = errno;
    exists = error != ENOENT && error != ENOTDIR;
    return refuse(exists ? std::generic_category().message(error) : "no such file");
  }
  exists = true;
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return refuse(std::generic_category().message(errno));
  if (!S_ISREG(about.st_mode)) return refuse("not a regular file");
  if (static_cast<std::size_t>(about.st_size) > kMostBytes) {
    return refuse(core::format("{} bytes, at most {} are read", about.st_size, kMostBytes));
  }
  std::string text;
  char block[1 << 14];
  for (;;) {
    const ssize_t got = ::read(file.get(), block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return refuse(std::generic_category().message(errno));
    if (got == 0) return text;
    text.append(block, static_cast<std::size_t>(got));
    if (text.size() > kMostBytes) return refuse("it grows while it is read");
  }
}

// The file that a link leads to, so that a link stays a link.
std::string target_of(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  return error ? path : target.string();
}

Status write_all(int descriptor, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t done = ::write(descriptor, text.data(), text.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return cannot_write(path, errno);
    text.remove_prefix(static_cast<std::size_t>(done));
  }
  // The new contents before the new name, also across a loss of power.
  return ::fsync(descriptor) == 0 ? Status() : cannot_write(path, errno);
}

Status replace_file(const std::string& path, std::string_view text) {
  const std::string temporary = core::format("{}.{}.tmp", path, ::getpid());
  const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file) return cannot_write(path, errno);
  Status status = write_all(file.get(), text, path);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) status = cannot_write(path, errno);
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

// Held by the one writer of a table.
Result<int> open_lock(const std::string& path) {
  if (path.empty()) {
    return Status(StatusCode::invalid_argument, "FUSEDMLP_TUNED",
                  core::format("there is no tuned table to write: {}", read_tuned().ignored));
  }
  std::error_code error;
  if (const fs::path parent = fs::path(path).parent_path(); !parent.empty()) fs::create_directories(parent, error);
  if (error) return cannot_write(path, error.value());
  if (fs::is_directory(path, error)) return cannot_write(path, EISDIR);
  const int lock = ::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock < 0) return cannot_write(path, errno);
  return lock;
}

}  // namespace

TunedState read_tuned(std::string path) {
  TunedState state;
  state.path = std::move(path);
  const Result<std::string> text = read_file(state.path, state.exists);
  if (!text) {
    state.ignored = text.status().message();
    return state;
  }
  Result<TunedTable> table = parse_tuned(*text);
  if (table) {
    state.table = std::move(table).value();
  } else {
    state.ignored = table.status().message();
  }
  return state;
}

TunedState read_tuned() {
  TunedState none;
  if (const char* path = std::getenv("FUSEDMLP_TUNED")) {
    if (*path != '\0' && std::strcmp(path, "off") != 0) {
      TunedState state = read_tuned(std::string(path));
      state.named = true;
      return state;
    }
    none.ignored = "off: FUSEDMLP_TUNED says so";
    return none;
  }
  // The XDG base directory specification: a path that is not absolute is as good as none.
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return read_tuned((fs::path(cache) / "fusedmlp" / "tuned.json").string());
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') {
    return read_tuned((fs::path(home) / ".cache" / "fusedmlp" / "tuned.json").string());
  }
  none.ignored = "none: neither FUSEDMLP_TUNED nor XDG_CACHE_HOME nor HOME names a directory";
  return none;
}

Status tuned_writable(const std::string& path) {
  const Result<int> lock = open_lock(target_of(path));
  if (!lock) return lock.status();
  ::close(*lock);
  return {};
}

Status merge_tuned(const std::string& path, const TunedTable& fresh, std::string* moved) {
  const std::string target = target_of(path);
  const Result<int> opened = open_lock(target);
  if (!opened) return opened.status();
  const Descriptor lock(*opened);
  while (::flock(lock.get(), LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOLCK || errno == EOPNOTSUPP) break;  // a file system without locks: the rename is atomic still
    return cannot_write(target, errno);
  }
  TunedState there = read_tuned(target);
  if (there.exists && !there.ignored.empty()) {
    if (::rename(target.c_str(), (target + ".bad").c_str()) != 0) return cannot_write(target, errno);
    if (moved != nullptr) *moved = there.ignored;
  }
  for (const auto& [key, record] : fresh) there.table[key] = record;
  const std::string text = tuned_text(there.table);
  if (text.size() > kMostBytes) {
    return Status(StatusCode::unavailable, "FUSEDMLP_TUNED",
                  core::format("{} would grow to {} bytes, at most {} are read", target, text.size(), kMostBytes));
  }
  return replace_file(target, text);
}

}  // namespace fusedmlp::core
