#include "trace/gzip_source.h"

#include <zlib.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/format.h"

namespace fusedmlp::trace {
namespace {

constexpr std::size_t kInputBlock = std::size_t{1} << 18;
constexpr std::size_t kAheadBlock = std::size_t{1} << 19;
constexpr std::size_t kAheadBlocks = 8;
constexpr std::uint64_t kWorthAThread = std::uint64_t{1} << 18;  // compressed bytes: a few milliseconds

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<ByteSource> bytes) : bytes_(std::move(bytes)), input_(kInputBlock) {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  ~GzipSource() override { inflateEnd(&stream_); }

  std::size_t read(char* to, std::size_t n) override {
    std::size_t have = 0;
    while (have < n && !ended_) {
      if (stream_.avail_in == 0) refill();
      const auto room = static_cast<uInt>(std::min<std::size_t>(n - have, std::size_t{1} << 30));
      stream_.next_out = reinterpret_cast<Bytef*>(to + have);
      stream_.avail_out = room;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      have += room - stream_.avail_out;
      if (result == Z_STREAM_END) {
        next_member();
      } else if (result == Z_BUF_ERROR && stream_.avail_in == 0 && at_end_) {
        end(core::format("the compressed file ends early, at its byte {}", bytes_->consumed()));
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        end(core::format("the compressed data is damaged near byte {} of the file ({})",
                         bytes_->consumed() - stream_.avail_in, stream_.msg != nullptr ? stream_.msg : "zlib"));
      }
    }
    return have;
  }
  std::string problem() const override {
    const std::string below = bytes_->problem();
    return below.empty() ? problem_ : below;
  }
  std::uint64_t consumed() const override { return bytes_->consumed(); }
  std::uint64_t total() const override { return bytes_->total(); }
  bool compressed() const override { return true; }

 private:
  // Reads behind the input that is left.
  void refill() {
    const std::size_t left = stream_.avail_in;
    if (left > 0) std::memmove(input_.data(), stream_.next_in, left);
    const std::size_t got = bytes_->read(reinterpret_cast<char*>(input_.data()) + left, input_.size() - left);
    stream_.next_in = input_.data();
    stream_.avail_in = static_cast<uInt>(left + got);
    at_end_ = got == 0;
  }

  // Other bytes behind the last member, such as padding, are not text.
  void next_member() {
    if (stream_.avail_in < kGzipMagic.size()) refill();
    if (stream_.avail_in >= kGzipMagic.size() &&
        std::memcmp(stream_.next_in, kGzipMagic.data(), kGzipMagic.size()) == 0) {
      inflateReset(&stream_);
    } else {
      ended_ = true;
    }
  }

  void end(std::string why) {
    ended_ = true;
    problem_ = std::move(why);
  }

  std::unique_ptr<ByteSource> bytes_;
  std::vector<Bytef> input_;
  z_stream stream_{};
  bool at_end_ = false;
  bool ended_ = false;
  std::string problem_;
};

// Reads its source on a thread, a few blocks ahead.
class AheadSource final : public ByteSource {
 public:
  explicit AheadSource(std::unique_ptr<ByteSource> source)
      : source_(std::move(source)), thread_([this] { work(); }) {}
  AheadSource(const AheadSource&) = delete;
  AheadSource& operator=(const AheadSource&) = delete;
  ~AheadSource() override {
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::size_t read(char* to, std::size_t n) override {
    std::size_t have = 0;
    while (have < n) {
      if (at_ == block_.size() && !next_block()) break;
      const std::size_t got = std::min(n - have, block_.size() - at_);
      std::memcpy(to + have, block_.data() + at_, got);
      have += got;
      at_ += got;
    }
    return have;
  }
  std::string problem() const override {
    const std::lock_guard lock(mutex_);
    return problem_;
  }
  std::uint64_t consumed() const override { return source_->consumed(); }
  std::uint64_t total() const override { return source_->total(); }
  bool compressed() const override { return source_->compressed(); }

 private:
  bool next_block() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || !blocks_.empty(); });
    if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
    if (blocks_.empty()) return false;
    block_ = std::move(blocks_.front());
    at_ = 0;
    blocks_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return true;
  }

  void work() {
    try {
      for (;;) {
        std::vector<char> block(kAheadBlock);
        block.resize(source_->read(block.data(), block.size()));
        const bool last = block.size() < kAheadBlock;
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return quit_ || blocks_.size() < kAheadBlocks; });
        if (quit_) return;
        if (!block.empty()) blocks_.push_back(std::move(block));
        if (last) {
          problem_ = source_->problem();
          ended_ = true;
        }
        lock.unlock();
        changed_.notify_all();
        if (last) return;
      }
    } catch (...) {
      {
        const std::lock_guard lock(mutex_);
        failed_ = std::current_exception();
        ended_ = true;
      }
      changed_.notify_all();
    }
  }

  std::unique_ptr<ByteSource> source_;
  std::vector<char> block_;  // that the reader is in
  std::size_t at_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<char>> blocks_;
  std::string problem_;
  std::exception_ptr failed_;
  bool ended_ = false;
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<ByteSource> inflated(std::unique_ptr<ByteSource> bytes) {
  const std::uint64_t size = bytes->total();
  auto gzip = std::make_unique<GzipSource>(std::move(bytes));
  if (size != 0 && size < kWorthAThread) return gzip;
  return std::make_unique<AheadSource>(std::move(gzip));
}

}  // namespace fusedmlp::trace
