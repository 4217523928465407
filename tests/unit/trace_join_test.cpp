#include "trace/join.h"

#include <gtest/gtest.h>

#include "trace/interval_union.h"
#include "trace_files.h"

namespace fusedmlp::trace {
namespace {

using test::data_path;

TEST(TraceJoin, FindsTheOpOfEveryKernelOfARealTrace) {
  const Result<Trace> trace = read(data_path("linear_32_64_eager.json.gz"));
  ASSERT_TRUE(trace.ok());
  const Joined joined = join(*trace);
  ASSERT_EQ(joined.links.size(), 3u);
  for (const Link& link : joined.links) {
    EXPECT_EQ(trace->events[link.event].category, Category::kernel);
    EXPECT_EQ(trace->text(trace->events[link.op].name), "aten::addmm");
    EXPECT_EQ(link.how, JoinedBy::external_id);
    EXPECT_EQ(trace->text(trace->events[link.runtime].name), "cuLaunchKernelEx");
    // addmm is inside linear, linear inside the step.
    const std::uint32_t linear = joined.parent[link.op];
    EXPECT_EQ(trace->text(trace->events[linear].name), "aten::linear");
    EXPECT_EQ(joined.parent[link.runtime], link.op);
  }
}

TEST(IntervalUnion, CountsOverlapsOnce) {
  const std::vector<Interval> intervals = {{10, 20}, {15, 18}, {19, 25}, {25, 30}, {40, 40}, {41, 43}};
  EXPECT_EQ(united(intervals), (std::vector<Interval>{{10, 30}, {41, 43}}));
  EXPECT_EQ(covered(intervals), 22);
  EXPECT_EQ(gaps(intervals, {5, 50}), (std::vector<Interval>{{5, 10}, {30, 41}, {43, 50}}));
  EXPECT_EQ(gaps(intervals, {12, 18}), std::vector<Interval>{});
  EXPECT_EQ(covered({}), 0);
  EXPECT_EQ(gaps({}, {1, 4}), (std::vector<Interval>{{1, 4}}));
}

}  // namespace
}  // namespace fusedmlp::trace
