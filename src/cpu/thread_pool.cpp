#include "cpu/thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <charconv>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "core/device.h"
#include "core/tune.h"

namespace fusedmlp::cpu {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// How long a worker stays awake for the next job: about 20 us, the cost of a sleep and a wake-up.
constexpr int kSpins = 1000;

// The task number of a ticket from which nothing is to be taken; no job has so many.
constexpr std::uint64_t kClosed = 0xffffffffu;

// default_executor()'s pool.
std::atomic<Executor*> default_pool{nullptr};

// How many forks made this process: a pool from before one has no threads here. The child lets go of its parent's
// default pool, whose destructor would wait for them for ever, and makes its own when it needs one.
std::atomic<int> forks{0};

void watch_forks() {
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] {
    forks.fetch_add(1, std::memory_order_relaxed);
    default_pool.store(nullptr, std::memory_order_relaxed);
  });
}

// One job at a time. `ticket_` holds (job number << 32 | next task); a task is taken by compare-exchange, so a
// worker that wakes late for a finished job fails the exchange and touches nothing of the next one: while a job's
// fields are written its ticket is closed. The caller works too and can finish a job alone: a worker that is not
// scheduled delays nobody.
class ThreadPool final : public Executor {
 public:
  explicit ThreadPool(int threads) {
    watch_forks();
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // a limit on threads or memory: those that started are the pool
    } catch (const std::bad_alloc&) {
    }
  }

  ~ThreadPool() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int concurrency() const noexcept override { return static_cast<int>(workers_.size()) + 1; }

  void parallel(int count, void (*task)(void*, int), void* context) override {
    if (count <= 1 || workers_.empty() || forks.load(std::memory_order_relaxed) != born_ ||
        busy_.exchange(true, std::memory_order_acquire)) {
      for (int i = 0; i < count; ++i) task(context, i);
      return;
    }
    const std::uint64_t last = ticket_.load(std::memory_order_relaxed) >> 32;
    ticket_.store(last << 32 | kClosed, std::memory_order_relaxed);
    // Released after the closing, so whoever reads one of these new values finds the ticket closed or new.
    task_.store(task, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    count_.store(static_cast<std::uint32_t>(count), std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t job = last + 1;
    ticket_.store(job << 32, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      { std::lock_guard lock(mutex_); }  // a worker between its last look and its wait holds this
      wake_.notify_all();
    }
    take_tasks(job);
    for (int spin = 0; done_.load(std::memory_order_acquire) < count; ++spin) {
      if (spin < kSpins) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
    busy_.store(false, std::memory_order_release);
  }

 private:
  void take_tasks(std::uint64_t job) {
    for (;;) {
      std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
      if (ticket >> 32 != job) return;
      const std::uint32_t index = static_cast<std::uint32_t>(ticket);
      const auto task = task_.load(std::memory_order_acquire);
      void* context = context_.load(std::memory_order_acquire);
      if (index >= count_.load(std::memory_order_acquire)) return;
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
      task(context, static_cast<int>(index));
      done_.fetch_add(1, std::memory_order_release);
    }
  }

  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      std::uint64_t job = ticket_.load(std::memory_order_acquire) >> 32;
      for (int spin = 0; job == seen && spin < kSpins; ++spin) {
        pause();
        job = ticket_.load(std::memory_order_acquire) >> 32;
      }
      if (job == seen) {
        std::unique_lock lock(mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return stop_ || ticket_.load(std::memory_order_seq_cst) >> 32 != seen; });
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
        if (stop_) return;
        job = ticket_.load(std::memory_order_acquire) >> 32;
      }
      seen = job;
      take_tasks(job);
    }
  }

  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  std::atomic<void (*)(void*, int)> task_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<std::uint32_t> count_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<bool> busy_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  const int born_ = forks.load(std::memory_order_relaxed);
  std::vector<std::thread> workers_;
};

struct EndOfDefaultPool {
  ~EndOfDefaultPool() { delete default_pool.exchange(nullptr, std::memory_order_acquire); }
};

}  // namespace

std::unique_ptr<Executor> make_thread_pool(int threads) {
  return std::make_unique<ThreadPool>(threads < 1 ? 1 : threads);
}

int default_thread_count() {
  if (const char* text = std::getenv("FUSEDMLP_NUM_THREADS")) {
    int value = 0;
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, value);
    if (error == std::errc() && stop == end && value >= 1 && value <= 4096) return value;
  }
  return core::usable_cpus();
}

}  // namespace fusedmlp::cpu

namespace fusedmlp {

std::unique_ptr<Executor> core::make_executor(int threads) { return cpu::make_thread_pool(threads); }

inline namespace v0 {

Executor& default_executor() {
  static const cpu::EndOfDefaultPool end;
  Executor* made = cpu::default_pool.load(std::memory_order_acquire);
  if (made != nullptr) return *made;
  std::unique_ptr<Executor> fresh = cpu::make_thread_pool(cpu::default_thread_count());
  if (cpu::default_pool.compare_exchange_strong(made, fresh.get(), std::memory_order_acq_rel))
    return *fresh.release();
  return *made;  // another thread was faster
}

}  // namespace v0
}  // namespace fusedmlp
