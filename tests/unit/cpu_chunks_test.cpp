// Work handed out in chunks: all of it, once, and each task's own first.
#include "cpu/chunks.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/aligned_buffer.h"

namespace fusedmlp::cpu {
namespace {

// What a workspace must hold for it, and the same in use.
struct Handed {
  Handed(const Split& parts, std::int64_t chunk)
      : memory(bytes(parts, chunk)), scratch(memory.data()), chunks(scratch, parts, chunk) {}
  static std::size_t bytes(const Split& parts, std::int64_t chunk) {
    Scratch measure(nullptr);
    Chunks(measure, parts, chunk);
    return measure.used();
  }

  core::AlignedBuffer memory;
  Scratch scratch;
  Chunks chunks;
};

TEST(Chunks, OneTaskTakesItsOwnPartInOrderAndThenTheOthers) {
  Handed handed(Split(10, 2), 2);
  EXPECT_EQ(handed.chunks.chunk(), 2);
  for (const Range& want : {Range{5, 7}, Range{7, 9}, Range{9, 10}, Range{0, 2}, Range{2, 4}, Range{4, 5}}) {
    EXPECT_EQ(handed.chunks.take(1), want);
  }
  EXPECT_EQ(handed.chunks.take(1).size(), 0);
  EXPECT_EQ(handed.chunks.take(0).size(), 0);
}

TEST(Chunks, AreNoLargerThanAPartAndTasksBeyondTheUnitsHelp) {
  Handed handed(Split(3, 8), 5);
  EXPECT_EQ(handed.chunks.chunk(), 1);
  EXPECT_EQ(handed.chunks.take(7), (Range{1, 2}));
  EXPECT_EQ(handed.chunks.take(2), (Range{2, 3}));
  EXPECT_EQ(handed.chunks.take(2), (Range{0, 1}));
  EXPECT_EQ(handed.chunks.take(0).size(), 0);
}

TEST(Chunks, EveryUnitIsTakenOnceByThreads) {
  constexpr std::int64_t kUnits = 1001;
  for (const std::int64_t chunk : {1, 7, 64}) {
    Handed handed(Split(kUnits, 3), chunk);
    std::vector<std::vector<Range>> taken(4);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (Range r = handed.chunks.take(t); r.size() > 0; r = handed.chunks.take(t))
          taken[static_cast<std::size_t>(t)].push_back(r);
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<int> times(kUnits);
    for (const auto& ranges : taken) {
      for (const Range& r : ranges) {
        for (std::int64_t i = r.begin; i < r.end; ++i) ++times[static_cast<std::size_t>(i)];
      }
    }
    EXPECT_EQ(times, std::vector<int>(kUnits, 1)) << chunk;
  }
}

// Two stages: what one thread wrote in the first is there for all in the second, whichever thread comes when.
TEST(Chunks, StagesWaitForAllThatWasTaken) {
  constexpr std::int64_t kUnits = 300;
  for (const int threads : {1, 2, 4}) {
    for (int round = 0; round < 50; ++round) {
      Handed first(Split(kUnits, threads), 7), second(Split(kUnits, threads), 11);
      std::vector<int> made(kUnits), seen(kUnits);
      const auto task = [&](int index) {
        first.chunks.work(index, [&](Range r) {
          for (std::int64_t i = r.begin; i < r.end; ++i) made[static_cast<std::size_t>(i)] = 1;
        });
        first.chunks.wait();
        second.chunks.work(index, [&](Range r) {
          for (std::int64_t i = r.begin; i < r.end; ++i) {
            seen[static_cast<std::size_t>(i)] += made[static_cast<std::size_t>(kUnits - 1 - i)];
          }
        });
      };
      std::vector<std::thread> others;
      others.reserve(static_cast<std::size_t>(threads));
      for (int t = 1; t < threads; ++t) others.emplace_back(task, t);
      task(0);
      for (std::thread& thread : others) thread.join();
      ASSERT_EQ(seen, std::vector<int>(kUnits, 1)) << threads;
    }
  }
}

// On an executor that runs them so: the first does all of it, and none waits for one that has not begun.
TEST(Chunks, TasksMayFollowOneAnother) {
  Handed handed(Split(10, 3), 2);
  std::int64_t units = 0;
  for (int index = 0; index < 3; ++index) {
    handed.chunks.work(index, [&](Range r) { units += r.size(); });
    handed.chunks.wait();
    EXPECT_EQ(units, 10) << index;
  }
}

}  // namespace
}  // namespace fusedmlp::cpu
