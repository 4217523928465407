#include "cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

namespace fusedmlp::cpu {
namespace {

struct Count {
  std::vector<std::atomic<int>> seen;
  explicit Count(int tasks) : seen(static_cast<std::size_t>(tasks)) {}
  static void task(void* context, int index) {
    static_cast<Count*>(context)->seen[static_cast<std::size_t>(index)].fetch_add(1);
  }
  bool each_once() const {
    for (const auto& n : seen) {
      if (n.load() != 1) return false;
    }
    return true;
  }
};

TEST(ThreadPool, RunsEachTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    const auto pool = make_thread_pool(threads);
    EXPECT_EQ(pool->concurrency(), threads);
    for (int tasks = 0; tasks < 40; ++tasks) {
      Count count(tasks);
      pool->parallel(tasks, &Count::task, &count);
      EXPECT_TRUE(count.each_once()) << threads << " threads, " << tasks << " tasks";
    }
  }
}

TEST(ThreadPool, FewerThanOneThreadIsOne) { EXPECT_EQ(make_thread_pool(0)->concurrency(), 1); }

TEST(ThreadPool, WorkersSleepAndWakeAgain) {
  const auto pool = make_thread_pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 3));
    Count count(7);
    pool->parallel(7, &Count::task, &count);
    EXPECT_TRUE(count.each_once());
  }
}

// A busy pool never makes a second caller wait for the first one's tasks, nor loses any.
TEST(ThreadPool, CallersAtOnceAndNestedCallsAllFinish) {
  const auto pool = make_thread_pool(4);
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  for (int c = 0; c < 8; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        Count count(5);
        pool->parallel(5, &Count::task, &count);
        good += count.each_once();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(good.load(), 8 * 200);

  struct Nested {
    Executor* pool;
    std::atomic<int> inner{0};
  } nested{pool.get()};
  pool->parallel(
      6,
      [](void* context, int) {
        auto& n = *static_cast<Nested*>(context);
        n.pool->parallel(
            3, [](void* inner, int) { static_cast<Nested*>(inner)->inner.fetch_add(1); }, context);
      },
      &nested);
  EXPECT_EQ(nested.inner.load(), 18);
}

// A worker that wakes late for a short job must not take a task of the long one that is being set up.
TEST(ThreadPool, ShortJobsFollowedByLongOnes) {
  const auto pool = make_thread_pool(16);
  int wrong = 0;
  for (int round = 0; round < (FUSEDMLP_SANITIZED ? 5000 : 200000); ++round) {
    const int tasks = round % 2 == 0 ? 2 : 40;
    Count count(tasks);
    pool->parallel(tasks, &Count::task, &count);
    wrong += !count.each_once();
  }
  EXPECT_EQ(wrong, 0);
}

// Address space for a few stacks only.
TEST(ThreadPool, IsAsLargeAsTheSystemLets) {
  if (FUSEDMLP_SANITIZED) GTEST_SKIP() << "sanitizers need the address space";
  const auto limited = [] {
    const rlimit limit{std::uint64_t{1} << 30, std::uint64_t{1} << 30};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
    const auto pool = make_thread_pool(1024);
    if (pool->concurrency() < 1 || pool->concurrency() >= 1024) _exit(3);
    Count count(40);
    pool->parallel(40, &Count::task, &count);
    _exit(count.each_once() ? 0 : 4);
  };
  EXPECT_EXIT(limited(), ::testing::ExitedWithCode(0), "");
}

// The child's own exit runs the destructors of static objects.
TEST(ThreadPool, AForksChildRunsAndEnds) {
  if (FUSEDMLP_SANITIZED) GTEST_SKIP() << "sanitizers do not follow a fork of a process with threads";
  Executor& before = default_executor();
  Count first(7);
  before.parallel(7, &Count::task, &first);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // workers sleep, in the condition variable
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (Executor* executor : {&before, &default_executor()}) {
      Count count(7);
      executor->parallel(7, &Count::task, &count);
      if (!count.each_once()) _exit(3);
    }
    std::exit(default_executor().concurrency() == default_thread_count() ? 0 : 4);
  }
  int status = 0;
  for (int waited = 0; waitpid(child, &status, WNOHANG) == 0; ++waited) {
    if (waited == 1000) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      FAIL() << "the child hangs";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ThreadPool, ReadsItsSizeFromTheEnvironment) {
  const int all = default_thread_count();
  EXPECT_GE(all, 1);
  setenv("FUSEDMLP_NUM_THREADS", "3", 1);
  EXPECT_EQ(default_thread_count(), 3);
  for (const char* bad : {"", "0", "-2", "many", "2x", "1000000"}) {
    setenv("FUSEDMLP_NUM_THREADS", bad, 1);
    EXPECT_EQ(default_thread_count(), all) << bad;
  }
  unsetenv("FUSEDMLP_NUM_THREADS");
}

}  // namespace
}  // namespace fusedmlp::cpu
