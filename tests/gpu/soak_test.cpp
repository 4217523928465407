// Every entry, shape and way of queuing mixed for long: each result is held against the bits of a run alone, on the
// device. FUSEDMLP_SOAK is the number of runs (run.sh soak: a million).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gpu/compare.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"

namespace fusedmlp::test {
namespace {

constexpr int kStreams = 4;

// One entry on one problem: its bits when it runs alone.
struct Case {
  std::string kernel;
  const Resident* problem;
  std::int64_t tokens;
  DeviceBuffer want;  // padded to whole words by 0xff, as y is

  std::size_t bytes() const { return problem->y_bytes(tokens); }
  std::string text() const {
    return kernel + ", " + to_string(problem->spec()) + ", " + std::to_string(tokens) + " tokens";
  }
};

// One stream with outputs, plans and graphs of its own.
struct Lane {
  Stream stream;
  std::vector<::fusedmlp::Plan> plans;
  std::vector<DeviceBuffer> y;
  std::vector<std::unique_ptr<Graph>> graphs;  // a run and its comparison
  DeviceBuffer workspace;                      // shared and dirty; every other plan uses its own instead
};

class Soak : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    found_ = DeviceBuffer(sizeof(Mismatches));
    reset_found();
    for (const char* text : {"swiglu:512x1536,bf16", "gelu:256x1000->264+bias,fp16", "swiglu_oai:1024x64+bias,bf16",
                             "geglu:136x264->72+bias,bf16", "relu2:128x512,bf16", "gelu:72x200+bias,fp32"}) {
      const MlpSpec spec = parse_spec(text).value();
      for (const std::int64_t tokens : {1, 2, 7, 16, 33, 64, 130}) {
        problems_.push_back(std::make_unique<Resident>(spec, make_values(spec, tokens, Data::normal, 9), tokens));
        for (const std::string& kernel : gpu_kernels(spec, tokens)) {
          Case one{kernel, problems_.back().get(), tokens, padded(problems_.back()->y_bytes(tokens))};
          run_alone(one);
          cases_.push_back(std::move(one));
        }
      }
    }
  }
  void TearDown() override { ::unsetenv("FUSEDMLP_KERNEL"); }

  static DeviceBuffer padded(std::size_t bytes) {
    DeviceBuffer buffer((bytes + 3) / 4 * 4);
    expect_ok(cudaMemset(buffer.data(), 0xff, buffer.size()));
    return buffer;
  }
  static void force(const std::string& kernel) { ::setenv("FUSEDMLP_KERNEL", kernel.c_str(), 1); }

  void run_alone(Case& one) {
    force(one.kernel);
    const Stream stream;
    expect_ok(cudaDeviceSynchronize());
    RunArgs args = one.problem->args(one.tokens, stream);
    args.y = one.want.data();
    const ::fusedmlp::Plan plan = one.problem->plan();
    expect_ok(plan.run(args));
    EXPECT_EQ(stream.wait(), "");
  }
  // Forces the entry and queues one run of the case with its comparison.
  void queue(const Lane& lane, std::size_t which) {
    const Case& one = cases_[which];
    force(one.kernel);
    RunArgs args = one.problem->args(one.tokens, lane.stream);
    args.y = lane.y[which].data();
    if (which % 2 == 0) {
      args.workspace = lane.workspace.data();
      args.workspace_bytes = lane.workspace.size();
    }
    expect_ok(lane.plans[which].run(args));
    compare(lane, which);
  }
  void compare(const Lane& lane, std::size_t which) {
    queue_compare(lane.y[which].data(), cases_[which].want.data(), cases_[which].bytes(),
                  static_cast<unsigned>(which), static_cast<Mismatches*>(found_.data()), lane.stream.handle());
  }
  std::unique_ptr<Lane> make_lane() {
    auto lane = std::make_unique<Lane>();
    std::size_t bytes = 0;
    for (const Case& one : cases_) {
      force(one.kernel);
      lane->plans.push_back(one.problem->plan());
      lane->y.push_back(padded(one.bytes()));
      bytes = std::max(bytes, lane->plans.back().workspace_bytes(one.tokens));
    }
    lane->workspace = padded(bytes);
    expect_ok(cudaDeviceSynchronize());
    for (std::size_t c = 0; c < cases_.size(); ++c) {
      lane->graphs.push_back(std::make_unique<Graph>(lane->stream, [&] { queue(*lane, c); }));
    }
    return lane;
  }
  Mismatches found() const {
    Mismatches out;
    expect_ok(cudaMemcpy(&out, found_.data(), sizeof out, cudaMemcpyDeviceToHost));
    return out;
  }
  void reset_found() {
    const Mismatches none;
    expect_ok(cudaMemcpy(found_.data(), &none, sizeof none, cudaMemcpyHostToDevice));
    expect_ok(cudaDeviceSynchronize());
  }

  std::vector<std::unique_ptr<Resident>> problems_;
  std::vector<Case> cases_;
  DeviceBuffer found_;
};

TEST_F(Soak, EntriesShapesStreamsAndGraphsMixed) {
  const char* text = std::getenv("FUSEDMLP_SOAK");
  const int runs = text == nullptr ? 20000 : std::atoi(text);
  ASSERT_GT(runs, 0) << "FUSEDMLP_SOAK";
  std::vector<std::unique_ptr<Lane>> lanes;
  for (int s = 0; s < kStreams; ++s) lanes.push_back(make_lane());

  // The comparison sees a result that was not written, in every case, and says in which.
  for (std::size_t c = 0; c < cases_.size(); ++c) {
    compare(*lanes[0], c);
    EXPECT_EQ(lanes[0]->stream.wait(), "");
    ASSERT_GT(found().words, 0u) << cases_[c].text();
    ASSERT_EQ(found().first_case, c);
    reset_found();
  }

  constexpr int kLook = 20000;  // runs between two looks at the count
  Random random(23);
  int replays = 0;
  for (int i = 0; i < runs; ++i) {
    Lane& lane = *lanes[static_cast<std::size_t>(random.below(kStreams))];
    const auto which = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(cases_.size())));
    if (random.below(2) == 0) {
      queue(lane, which);
    } else {
      lane.graphs[which]->replay(lane.stream);
      ++replays;
    }
    ASSERT_FALSE(HasFailure()) << "run " << i << ": " << cases_[which].text();
    if ((i + 1) % kLook != 0 && i + 1 != runs) continue;
    for (const auto& each : lanes) ASSERT_EQ(each->stream.wait(), "") << "by run " << i;
    const Mismatches now = found();
    ASSERT_EQ(now.words, 0u) << "by run " << i << ", first in " << cases_[now.first_case].text();
  }
  std::vector<std::string> kernels;
  for (const Case& one : cases_) kernels.push_back(one.kernel);
  std::sort(kernels.begin(), kernels.end());
  kernels.erase(std::unique(kernels.begin(), kernels.end()), kernels.end());
  std::string names;
  for (const std::string& name : kernels) names += (names.empty() ? "" : ", ") + name;
  RecordProperty("runs", runs);
  std::printf("%d runs, %d of them replays, of %zu cases on %d streams; entries: %s\n", runs, replays, cases_.size(),
              kStreams, names.c_str());
}

}  // namespace
}  // namespace fusedmlp::test
