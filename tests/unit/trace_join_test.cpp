#include "trace/join.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/format.h"
#include "trace/interval_union.h"
#include "trace_files.h"

namespace fusedmlp::trace {
namespace {

using test::data_path;
using test::trace_of;

// Times in microseconds.
std::string op(const char* name, double ts, double dur, int external_id, const char* pid = "1", int tid = 1) {
  return core::format(
      R"({{"ph":"X","cat":"cpu_op","name":"{}","pid":"{}","tid":{},"ts":{},"dur":{},"args":{{"External id":{}}}}})",
      name, pid, tid, ts, dur, external_id);
}

std::string call(const char* name, double ts, double dur, int correlation, const char* pid = "1", int tid = 1) {
  return core::format(
      R"({{"ph":"X","cat":"cuda_runtime","name":"{}","pid":"{}","tid":{},"ts":{},"dur":{},"args":{{"correlation":{}}}}})",
      name, pid, tid, ts, dur, correlation);
}

std::string kernel(const char* name, double ts, int correlation, int external_id, const char* more = "",
                   int device = 0) {
  return core::format(R"({{"ph":"X","cat":"kernel","name":"{}","pid":{},"tid":7,"ts":{},"dur":1,)"
                      R"("args":{{"device":{},"stream":7,"correlation":{},"External id":{}{}}}}})",
                      name, device, ts, device, correlation, external_id, more);
}

class TraceJoin : public ::testing::Test {
 protected:
  void join(const std::vector<std::string>& events) {
    std::string text = "[";
    for (const std::string& event : events) text.append(event).append(",\n");
    trace_ = trace_of(text);
    joined_ = trace::join(trace_);
  }

  // "kernel op how confidence"
  std::vector<std::string> links() const {
    static constexpr const char* kHow[] = {"external_id", "correlation", "graph_node", "sequence", "none"};
    std::vector<std::string> out;
    for (const Link& link : joined_.links) {
      out.push_back(core::format("{} {} {} {}", name(link.event), name(link.op), kHow[static_cast<int>(link.how)],
                                 link.confidence));
    }
    return out;
  }

  std::string name(std::uint32_t event) const {
    return event == kNone ? "-" : std::string(trace_.text(trace_.events[event].name));
  }
  std::string parent_of(const std::string& child) const {
    for (std::uint32_t i = 0; i < trace_.events.size(); ++i) {
      if (name(i) == child) return name(joined_.parent[i]);
    }
    return "no such event";
  }

  Trace trace_;
  Joined joined_;
};

using Links = std::vector<std::string>;

TEST_F(TraceJoin, FindsTheOpOfEveryKernelOfARealTrace) {
  const Result<Trace> trace = read(data_path("linear_32_64_eager.json.gz"));
  ASSERT_TRUE(trace.ok());
  const Joined joined = trace::join(*trace);
  ASSERT_EQ(joined.links.size(), 3u);
  for (const Link& link : joined.links) {
    EXPECT_EQ(trace->events[link.event].category, Category::kernel);
    EXPECT_EQ(trace->text(trace->events[link.op].name), "aten::addmm");
    EXPECT_EQ(link.how, JoinedBy::external_id);
    EXPECT_EQ(link.confidence, 1);
    EXPECT_EQ(trace->text(trace->events[link.runtime].name), "cuLaunchKernelEx");
    EXPECT_EQ(trace->text(trace->events[joined.parent[link.op]].name), "aten::linear");
    EXPECT_EQ(joined.parent[link.runtime], link.op);
  }
}

TEST_F(TraceJoin, ParentsAreTheInnermostOnTheSameThread) {
  join({
      R"({"ph":"X","cat":"user_annotation","name":"step","pid":"1","tid":1,"ts":0,"dur":100.5})",
      op("outer", 0, 50, 1),
      op("inner", 10, 20, 2),
      op("touching", 50, 10, 3),
      op("other thread", 12, 3, 4, "1", 2),
      op("other process", 12, 3, 5, "2", 1),
      call("launch", 15, 1, 1),
      call("at the end", 30, 0, 2),
      call("behind", 200, 1, 3),
  });
  EXPECT_EQ(parent_of("step"), "-");
  EXPECT_EQ(parent_of("outer"), "step");
  EXPECT_EQ(parent_of("inner"), "outer");
  EXPECT_EQ(parent_of("touching"), "step");
  EXPECT_EQ(parent_of("other thread"), "-");
  EXPECT_EQ(parent_of("other process"), "-");
  EXPECT_EQ(parent_of("launch"), "inner");
  EXPECT_EQ(parent_of("at the end"), "outer");
  EXPECT_EQ(parent_of("behind"), "-");
}

// Starts and durations cut down to whole microseconds: 10.2 to 15.1 holds 11.0 to 15.05.
TEST_F(TraceJoin, WholeMicrosecondsMayOverhangByOne) {
  join({op("outer", 10, 4, 1), op("inner", 11, 4, 2), op("next", 14, 5, 3), op("no child", 15, 6, 4)});
  EXPECT_EQ(parent_of("inner"), "outer");
  EXPECT_EQ(parent_of("next"), "-");
  EXPECT_EQ(parent_of("no child"), "-");
  join({op("outer", 10, 4, 1), op("inner", 11, 4, 2), op("fine", 30, 0.5, 3)});
  EXPECT_EQ(parent_of("inner"), "-");
}

TEST_F(TraceJoin, ByExternalIdElseByTheCallsThread) {
  join({
      op("a", 0, 10, 1),
      op("deeper", 1, 5, 2),
      op("b", 20, 10, 3),
      call("cudaLaunchKernel", 2, 1, 11),
      call("cudaLaunchKernel", 22, 1, 12),
      call("cudaLaunchKernel", 24, 1, 13),
      kernel("confirmed", 40, 11, 1),      // the id names an op around the innermost
      kernel("id of no op", 41, 12, 999),  // happens to whole files
      kernel("id of another op", 42, 13, 1),
      kernel("no call", 43, 0, 3),
      kernel("neither", 44, 999, 999),
  });
  EXPECT_EQ(links(), (Links{
                         "confirmed deeper external_id 1",
                         "id of no op b correlation 0.9",
                         "id of another op b correlation 0.7",
                         "no call b external_id 1",
                         "neither - none 0",
                     }));
}

TEST_F(TraceJoin, CopiesAndSetsAreJoinedToo) {
  join(
      {op("a", 0, 10, 1), call("cudaMemcpyAsync", 2, 1, 11),
       R"({"ph":"X","cat":"gpu_memcpy","name":"Memcpy DtoD","pid":0,"tid":7,"ts":9,"dur":1,"args":{"correlation":11}})",
       R"({"ph":"X","cat":"gpu_memset","name":"Memset","pid":0,"tid":7,"ts":8,"dur":1,"args":{"External id":1}})"});
  EXPECT_EQ(links(), (Links{"Memset a external_id 1", "Memcpy DtoD a correlation 0.9"}));
}

// Two ranks put into one file: the same ids twice. Calls that are told apart by their correlation say which process
// drives which device.
TEST_F(TraceJoin, RanksInOneFileKeepTheirOwnOps) {
  join({
      op("a0", 0, 10, 1, "rank 0"),
      op("a1", 3, 10, 1, "rank 1"),
      call("cudaLaunchKernel", 1, 1, 5, "rank 0"),
      call("cudaLaunchKernel", 4, 1, 5, "rank 1"),
      call("cudaLaunchKernel", 2, 1, 6, "rank 0"),
      call("cudaLaunchKernel", 6, 1, 7, "rank 1"),
      kernel("k0", 20, 5, 1, "", 0),
      kernel("k1", 21, 5, 1, "", 1),
      kernel("only 0", 22, 6, 1, "", 0),
      kernel("only 1", 23, 7, 1, "", 1),
  });
  EXPECT_EQ(links(), (Links{"k0 a0 external_id 1", "k1 a1 external_id 1", "only 0 a0 external_id 1",
                            "only 1 a1 external_id 1"}));
}

TEST_F(TraceJoin, OfSeveralOpsWithAnIdTheLastBeforeTheKernel) {
  join({op("early", 0, 1, 4), op("right", 10, 1, 4), op("late", 30, 1, 4), kernel("k", 20, 0, 4)});
  EXPECT_EQ(links(), (Links{"k right external_id 0.8"}));
}

TEST_F(TraceJoin, AReplayBelongsToTheOpsOfItsCapture) {
  join({
      op("capturing", 0, 50, 1),
      call("cudaStreamBeginCapture_v10000", 1, 1, 1),
      op("mm", 3, 4, 2),
      call("cuLaunchKernelEx", 4, 1, 2),
      op("gelu", 8, 4, 3),
      call("cudaLaunchKernel", 9, 1, 3),
      call("cudaStreamEndCapture", 20, 1, 4),
      op("replay()", 100, 10, 9),
      call("cudaGraphLaunch", 101, 1, 50),
      kernel("k1", 200, 50, 9, R"(,"graph id":1,"graph node id":4294967297)"),
      kernel("k2", 201, 50, 9, R"(,"graph id":1,"graph node id":4294967298)"),
      call("cudaGraphLaunch", 103, 1, 51),
      kernel("k1", 300, 51, 9, R"(,"graph id":1,"graph node id":4294967297)"),
      kernel("k2", 301, 51, 9, R"(,"graph id":1,"graph node id":4294967298)"),
  });
  EXPECT_EQ(links(),
            (Links{"k1 mm sequence 0.7", "k2 gelu sequence 0.7", "k1 mm graph_node 0.7", "k2 gelu graph_node 0.7"}));
  EXPECT_EQ(name(joined_.links[0].runtime), "cudaGraphLaunch");
}

TEST_F(TraceJoin, AReplayBelongsToTheOpsOfTheSameKernelsRunEagerly) {
  std::vector<std::string> events;
  const auto eager = [&](double at, int id) {
    events.push_back(op("mm", at, 2, id));
    events.push_back(call("cudaLaunchKernel", at + 1, 0.5, id));
    events.push_back(kernel("gemm", at + 10, id, id, R"(,"grid":[4,1,1])"));
    events.push_back(op("gelu", at + 3, 2, id + 1));
    events.push_back(call("cudaLaunchKernel", at + 4, 0.5, id + 1));
    events.push_back(kernel("pointwise", at + 12, id + 1, id + 1));
  };
  eager(0, 1);
  eager(100, 3);
  events.push_back(call("hipGraphLaunch", 200, 1, 50));
  events.push_back(kernel("gemm", 300, 50, 0, R"(,"grid":[4,1,1])"));
  events.push_back(kernel("pointwise", 301, 50, 0));
  events.push_back(call("hipGraphLaunch", 210, 1, 51));  // another shape
  events.push_back(kernel("gemm", 310, 51, 0, R"(,"grid":[8,1,1])"));
  events.push_back(kernel("pointwise", 311, 51, 0));
  events.push_back(call("hipGraphLaunch", 220, 1, 52));  // one kernel proves nothing
  events.push_back(kernel("pointwise", 321, 52, 0));
  join(events);
  EXPECT_EQ(links(), (Links{"gemm mm external_id 1", "pointwise gelu external_id 1", "gemm mm external_id 1",
                            "pointwise gelu external_id 1", "gemm mm sequence 0.6", "pointwise gelu sequence 0.6",
                            "gemm - none 0", "pointwise - none 0", "pointwise - none 0"}));
  EXPECT_EQ(joined_.links[4].op, joined_.links[2].op);  // the last run
}

TEST_F(TraceJoin, AnUnknownReplayHasNoOp) {
  join({op("replay()", 0, 10, 9), call("cudaGraphLaunch", 1, 1, 50), kernel("a", 20, 50, 9), kernel("b", 21, 50, 9)});
  EXPECT_EQ(links(), (Links{"a - none 0", "b - none 0"}));
}

TEST_F(TraceJoin, AnEmptyTrace) {
  join({R"({"ph":"M","name":"process_name"})"});
  EXPECT_TRUE(joined_.links.empty());
  EXPECT_TRUE(joined_.parent.empty());
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
