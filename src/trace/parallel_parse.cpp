#include "trace/parallel_parse.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace fusedmlp::trace {
namespace {

struct Piece {
  TextBlock text;
  double progress = 0;  // share of the file read when the piece was
  Batch batch;
  Stop stop = Stop::end_of_text;
  const char* stopped_at = nullptr;
  std::exception_ptr failed;
  bool done = false;

  void parse(bool python_functions) {
    try {
      EventParser parser(python_functions);
      TextCursor c = text.cursor();
      stop = parser.parse(c, text.offset_of(c.p), batch);
      // The serial parser is to see the array's end.
      stopped_at = stop == Stop::end_of_array ? c.p - 1 : c.p;
    } catch (...) {
      failed = std::current_exception();
    }
  }
};

// A piece without a place to cut it grows to this many blocks; then the serial parser goes on.
constexpr std::size_t kMostBlocks = 16;

// Threads that parse pieces; wait() gives them back in the order of add().
class Workers {
 public:
  Workers(int threads, bool python_functions) : python_functions_(python_functions) {
    try {
      for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The process may start no more: those that are there do it, or wait() does.
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void add(std::unique_ptr<Piece> piece) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(piece.get());
      pieces_.push_back(std::move(piece));
    }
    changed_.notify_all();
  }

  std::unique_ptr<Piece> wait() {
    std::unique_lock lock(mutex_);
    if (threads_.empty()) {
      waiting_.pop_front();
      pieces_.front()->parse(python_functions_);
      pieces_.front()->done = true;
    }
    changed_.wait(lock, [&] { return pieces_.front()->done; });
    std::unique_ptr<Piece> piece = std::move(pieces_.front());
    pieces_.pop_front();
    lock.unlock();
    if (piece->failed) std::rethrow_exception(piece->failed);
    return piece;
  }

  std::size_t size() const { return pieces_.size(); }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return quit_ || !waiting_.empty(); });
      if (quit_) return;
      Piece* const piece = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      piece->parse(python_functions_);
      lock.lock();
      piece->done = true;
      changed_.notify_all();
    }
  }

  const bool python_functions_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Piece>> pieces_;  // changed by the owner's thread alone
  std::deque<Piece*> waiting_;
  bool quit_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Remainder parse_in_parallel(TextBlock text, ByteSource& source, const ParallelOptions& options,
                            TraceBuilder& builder) {
  Workers workers(options.threads, options.python_functions);
  // Enough that nobody waits for the reading, few enough to stay small.
  const std::size_t most = static_cast<std::size_t>(options.threads) * 2;
  bool ended = false;
  bool cuttable = true;
  for (;;) {
    while (cuttable && !ended && workers.size() < most) {
      auto piece = std::make_unique<Piece>();
      piece->text = TextBlock(text.size() + options.block, text.offset_of(text.begin()));
      piece->text.append(text.begin(), text.end());
      ended = !piece->text.fill(source);
      if (options.read_more) options.read_more();
      const char* const cut = find_last_record(piece->text.begin(), piece->text.end());
      if (cut == nullptr) {
        text = std::move(piece->text);
        cuttable = text.size() < kMostBlocks * options.block;
        continue;
      }
      text = TextBlock(static_cast<std::size_t>(piece->text.end() - cut), piece->text.offset_of(cut));
      text.append(cut, piece->text.end());
      piece->text.truncate(cut);
      piece->progress = progress_of(source);
      workers.add(std::move(piece));
    }
    if (workers.size() == 0) break;
    const std::unique_ptr<Piece> piece = workers.wait();
    builder.add(piece->batch, piece->progress);
    if (piece->stop == Stop::end_of_text) continue;
    // The pieces behind it were cut on a wrong assumption: their text is parsed again.
    std::vector<std::unique_ptr<Piece>> behind;
    while (workers.size() > 0) behind.push_back(workers.wait());
    std::size_t size = piece->text.size() + text.size();
    for (const auto& next : behind) size += next->text.size();
    TextBlock rest(size, piece->text.offset_of(piece->stopped_at));
    rest.append(piece->stopped_at, piece->text.end());
    for (const auto& next : behind) rest.append(next->text.begin(), next->text.end());
    rest.append(text.begin(), text.end());
    return {std::move(rest), ended};
  }
  return {std::move(text), ended};
}

}  // namespace fusedmlp::trace
