#include "trace/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "core/format.h"

namespace fusedmlp::trace {
namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

// A file descriptor that is read to its end.
class File {
 public:
  explicit File(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(fd_); }

  std::size_t read(char* to, std::size_t n) {
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

  const std::string& problem() const { return problem_; }
  std::uint64_t consumed() const { return consumed_.load(std::memory_order_relaxed); }
  std::uint64_t size() const { return size_; }

 private:
  int fd_;
  std::uint64_t size_;
  std::atomic<std::uint64_t> consumed_{0};
  std::string problem_;
};

class PlainSource final : public ByteSource {
 public:
  PlainSource(std::unique_ptr<File> file, std::string head) : file_(std::move(file)), head_(std::move(head)) {}

  std::size_t read(char* to, std::size_t n) override {
    const std::size_t from_head = std::min(n, head_.size() - head_read_);
    std::memcpy(to, head_.data() + head_read_, from_head);
    head_read_ += from_head;
    return from_head + file_->read(to + from_head, n - from_head);
  }
  std::string problem() const override { return file_->problem(); }
  std::uint64_t consumed() const override { return file_->consumed(); }
  std::uint64_t total() const override { return file_->size(); }
  bool compressed() const override { return false; }

 private:
  std::unique_ptr<File> file_;
  std::string head_;
  std::size_t head_read_ = 0;
};

// Every member of a gzip file (RFC 1952 allows several, one after the other).
class GzipSource final : public ByteSource {
 public:
  GzipSource(std::unique_ptr<File> file, const std::string& head) : file_(std::move(file)), input_(1 << 18) {
    std::memcpy(input_.data(), head.data(), head.size());
    stream_.next_in = input_.data();
    stream_.avail_in = static_cast<uInt>(head.size());
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) end("no memory to inflate");
  }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  ~GzipSource() override { inflateEnd(&stream_); }

  std::size_t read(char* to, std::size_t n) override {
    std::size_t have = 0;
    while (have < n && !ended_) {
      if (stream_.avail_in == 0) refill();
      stream_.next_out = reinterpret_cast<Bytef*>(to + have);
      stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(n - have, 1 << 30));
      const uInt room = stream_.avail_out;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      have += room - stream_.avail_out;
      if (result == Z_STREAM_END) {
        next_member();
      } else if (result == Z_BUF_ERROR && stream_.avail_in == 0 && at_end_) {
        end(core::format("the compressed file ends early, at its byte {}", file_->consumed()));
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        end(core::format("the compressed data is damaged at byte {} of the file ({})",
                         file_->consumed() - stream_.avail_in, stream_.msg != nullptr ? stream_.msg : "zlib"));
      }
    }
    return have;
  }
  std::string problem() const override { return problem_.empty() ? file_->problem() : problem_; }
  std::uint64_t consumed() const override { return file_->consumed(); }
  std::uint64_t total() const override { return file_->size(); }
  bool compressed() const override { return true; }

 private:
  void refill() {
    const std::size_t got = file_->read(reinterpret_cast<char*>(input_.data()), input_.size());
    stream_.next_in = input_.data();
    stream_.avail_in = static_cast<uInt>(got);
    at_end_ = got == 0;
  }

  // Another member, or the end; other bytes behind the last member (tape padding) are not text.
  void next_member() {
    if (stream_.avail_in < 2) {
      const uInt left = stream_.avail_in;
      if (left == 1) input_[0] = *stream_.next_in;
      const std::size_t got = file_->read(reinterpret_cast<char*>(input_.data()) + left, input_.size() - left);
      stream_.next_in = input_.data();
      stream_.avail_in = left + static_cast<uInt>(got);
    }
    if (stream_.avail_in >= 2 && stream_.next_in[0] == 0x1f && stream_.next_in[1] == 0x8b) {
      inflateReset(&stream_);
    } else {
      ended_ = true;
    }
  }

  void end(std::string why) {
    ended_ = true;
    problem_ = std::move(why);
  }

  std::unique_ptr<File> file_;
  std::vector<Bytef> input_;
  z_stream stream_{};
  bool at_end_ = false;
  bool ended_ = false;
  std::string problem_;
};

}  // namespace

Status not_a_trace(const std::string& path, const std::string& why) {
  return Status(
      StatusCode::invalid_argument, "path",
      core::format("cannot read '{}': {}; a PyTorch profiler trace (.json or .json.gz) is accepted", path, why));
}

Result<std::unique_ptr<ByteSource>> open_source(const std::string& path) {
  const auto refuse = [&](const std::string& why) { return not_a_trace(path, why); };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return refuse(error_text(errno));
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  if (known && S_ISDIR(info.st_mode)) {
    ::close(fd);
    return refuse("it is a directory");
  }
  auto file =
      std::make_unique<File>(fd, known && S_ISREG(info.st_mode) ? static_cast<std::uint64_t>(info.st_size) : 0);
  std::string head(2, '\0');
  head.resize(file->read(head.data(), head.size()));
  if (!file->problem().empty()) return refuse(file->problem());
  if (head.empty()) return refuse("it is empty");
  if (head == "\x1f\x8b") return std::unique_ptr<ByteSource>(std::make_unique<GzipSource>(std::move(file), head));
  return std::unique_ptr<ByteSource>(std::make_unique<PlainSource>(std::move(file), std::move(head)));
}

}  // namespace fusedmlp::trace
