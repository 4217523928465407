#include "trace/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "core/format.h"
#include "trace/gzip_source.h"

namespace fusedmlp::trace {
namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

class FileSource final : public ByteSource {
 public:
  FileSource(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  ~FileSource() override { ::close(fd_); }

  std::size_t read(char* to, std::size_t n) override {
    std::size_t have = 0;
    while (have < n) {
      const ssize_t got = ::read(fd_, to + have, n - have);
      if (got > 0) {
        have += static_cast<std::size_t>(got);
      } else if (got == 0 || errno != EINTR) {
        if (got < 0) problem_ = core::format("the file cannot be read: {}", error_text(errno));
        break;
      }
    }
    consumed_.fetch_add(have, std::memory_order_relaxed);
    return have;
  }
  std::string problem() const override { return problem_; }
  std::uint64_t consumed() const override { return consumed_.load(std::memory_order_relaxed); }
  std::uint64_t total() const override { return size_; }

 private:
  int fd_;
  std::uint64_t size_;
  std::atomic<std::uint64_t> consumed_{0};
  std::string problem_;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}

  std::size_t read(char* to, std::size_t n) override {
    const std::size_t got = bytes_.copy(to, n, at_.load(std::memory_order_relaxed));
    at_.fetch_add(got, std::memory_order_relaxed);
    return got;
  }
  std::string problem() const override { return {}; }
  std::uint64_t consumed() const override { return at_.load(std::memory_order_relaxed); }
  std::uint64_t total() const override { return bytes_.size(); }

 private:
  std::string_view bytes_;
  std::atomic<std::size_t> at_{0};
};

// Bytes that were read already, then the rest of their source.
class Rejoined final : public ByteSource {
 public:
  Rejoined(std::string head, std::unique_ptr<ByteSource> rest) : head_(std::move(head)), rest_(std::move(rest)) {}

  std::size_t read(char* to, std::size_t n) override {
    const std::size_t from_head = head_.copy(to, n, at_);
    at_ += from_head;
    return from_head + rest_->read(to + from_head, n - from_head);
  }
  std::string problem() const override { return rest_->problem(); }
  std::uint64_t consumed() const override { return rest_->consumed(); }
  std::uint64_t total() const override { return rest_->total(); }

 private:
  std::string head_;
  std::size_t at_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

}  // namespace

Status not_a_trace(const std::string& path, const std::string& why) {
  return Status(
      StatusCode::invalid_argument, "path",
      core::format("cannot read '{}': {}; a PyTorch profiler trace (.json or .json.gz) is accepted", path, why));
}

Result<std::unique_ptr<ByteSource>> open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return not_a_trace(path, error_text(errno));
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  const bool regular = known && S_ISREG(info.st_mode);
  std::unique_ptr<ByteSource> file = std::make_unique<FileSource>(fd, regular ? info.st_size : 0);
  if (known && S_ISDIR(info.st_mode)) return not_a_trace(path, "it is a directory");
  return file;
}

std::unique_ptr<ByteSource> memory_source(std::string_view bytes) { return std::make_unique<MemorySource>(bytes); }

std::unique_ptr<ByteSource> text_of(std::unique_ptr<ByteSource> bytes) {
  std::string head(kGzipMagic.size(), '\0');
  head.resize(bytes->read(head.data(), head.size()));
  const bool gzip = head == kGzipMagic;
  auto all = std::make_unique<Rejoined>(std::move(head), std::move(bytes));
  if (!gzip) return all;
  return inflated(std::move(all));
}

}  // namespace fusedmlp::trace
