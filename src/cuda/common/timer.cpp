// Times of a GPU's entries in CUDA graphs, weights cold in L2.
#include <algorithm>
#include <cmath>

#include "core/cost_model.h"
#include "core/gpu_run.h"
#include "core/measure_entries.h"
#include "cuda/common/check.h"
#include "cuda/common/operands.h"

namespace fusedmlp::cuda {
namespace {

constexpr double kColdBytes = 200e6;     // of weights between two uses of the same copy: four times an H200's L2
constexpr double kLeastSample = 1.5e-3;  // seconds: an event's time is good to half a microsecond
constexpr int kMostReplays = 50;         // of a sample
constexpr int kLeastCopies = 2;          // of weights larger than that
constexpr std::int64_t kLeastRows = 64;  // of x and y, so that few tokens do not allocate anew

class Event {
 public:
  static Result<Event> create() {
    cudaEvent_t event = nullptr;
    if (Status status = check(cudaEventCreate(&event), "create an event"); !status) return status;
    Event own;
    own.event_.reset(event);
    return own;
  }
  cudaEvent_t get() const { return event_.get(); }

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const { static_cast<void>(cudaEventDestroy(event)); }
  };
  std::unique_ptr<CUevent_st, Destroy> event_;
};

struct GraphDestroy {
  void operator()(cudaGraphExec_t graph) const { static_cast<void>(cudaGraphExecDestroy(graph)); }
};

class Timer final : public core::EntryTimer {
 public:
  static Result<std::unique_ptr<core::EntryTimer>> create(const MlpSpec& spec, const DeviceInfo& device,
                                                          const core::MeasureOptions& options);
  Timer(const MlpSpec& spec, const DeviceInfo& device, const core::MeasureOptions& options, OwnStream stream,
        Event begin, Event end)
      : spec_(spec),
        device_(device),
        options_(options),
        stream_(std::move(stream)),
        begin_(std::move(begin)),
        end_(std::move(end)) {}
  ~Timer() override {
    const DeviceScope scope(device_.device.index);
    copies_.clear();
    for (DeviceMemory* memory : {&x_, &y_, &workspace_}) *memory = {};
  }

  core::Query query(std::int64_t tokens) const override {
    return {spec_, tokens, device_, 1, false, core::dense_layout(spec_)};
  }
  Result<std::vector<core::EntryTimes>> run(std::int64_t tokens, const std::vector<core::Candidate>& list) override;

 private:
  struct Contender {
    core::EntryTimes times;
    std::unique_ptr<CUgraphExec_st, GraphDestroy> graph;
    int replays = 1;
    double spent = 0;
  };

  Status grow(DeviceMemory& memory, std::size_t bytes);
  Status make_operands(const core::Query& query, const std::vector<Contender>& all);
  Status capture(Contender& contender, const RunArgs& args);
  Result<double> time(const Contender& contender, int replays) const;

  MlpSpec spec_;
  const DeviceInfo& device_;
  core::MeasureOptions options_;
  OwnStream stream_;
  Event begin_, end_;
  std::vector<DeviceWeights> copies_;
  DeviceMemory x_, y_, workspace_;  // grown, never shrunk
};

Result<std::unique_ptr<core::EntryTimer>> Timer::create(const MlpSpec& spec, const DeviceInfo& device,
                                                        const core::MeasureOptions& options) {
  const DeviceScope scope(device.device.index);
  if (!scope.status()) return scope.status();
  Result<OwnStream> stream = OwnStream::create();
  if (!stream) return stream.status();
  Result<Event> begin = Event::create(), end = Event::create();
  if (!begin) return begin.status();
  if (!end) return end.status();
  auto timer = std::make_unique<Timer>(spec, device, options, std::move(*stream), std::move(*begin), std::move(*end));
  int count = std::max(static_cast<int>(std::ceil(kColdBytes / core::weight_bytes(spec))) + 1, kLeastCopies);
  if (options.most_copies > 0) count = std::min(count, options.most_copies);
  for (int i = 0; i < count; ++i) {
    Result<DeviceWeights> copy = DeviceWeights::allocate(spec);
    if (!copy) return copy.status();
    if (Status status = i == 0 ? copy->fill() : copy->copy(timer->copies_.front()); !status) return status;
    timer->copies_.push_back(std::move(*copy));
  }
  return std::unique_ptr<core::EntryTimer>(std::move(timer));
}

Status Timer::grow(DeviceMemory& memory, std::size_t bytes) {
  if (memory.size() >= bytes) return {};
  memory = {};
  Result<DeviceMemory> fresh = DeviceMemory::allocate(bytes);
  if (!fresh) return fresh.status();
  memory = std::move(*fresh);
  return {};
}

Status Timer::make_operands(const core::Query& asked, const std::vector<Contender>& all) {
  const std::size_t size = size_of(spec_.dtype);
  const std::int64_t tokens = std::max(asked.tokens, kLeastRows);
  const std::size_t before = x_.size();
  if (Status status = grow(x_, static_cast<std::size_t>(tokens * spec_.d_in) * size); !status) return status;
  if (x_.size() != before) {
    if (Status status = fill_normal(spec_.dtype, x_.data(), tokens * spec_.d_in, 1); !status) return status;
  }
  if (Status status = grow(y_, static_cast<std::size_t>(tokens * spec_.d_out) * size); !status) return status;
  std::size_t most = 0;  // entries run one after another and may share
  for (const Contender& c : all) {
    if (c.times.skipped.empty()) most = std::max(most, c.times.candidate.entry->workspace_bytes(asked));
  }
  return grow(workspace_, most);
}

// One run on each copy of the weights.
Status Timer::capture(Contender& c, const RunArgs& args) {
  const core::KernelEntry& entry = *c.times.candidate.entry;
  const auto run_on = [&](const DeviceWeights& weights) {
    return entry.run({spec_, weights.views(), nullptr}, args, device_);
  };
  if (Status status = run_on(copies_.front()); !status) return status;  // loads the code
  if (Status status = stream_.wait(); !status) return status;
  if (Status status =
          check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "capture a stream");
      !status) {
    return status;
  }
  Status status;
  for (const DeviceWeights& weights : copies_) {
    if (status) status = run_on(weights);
  }
  cudaGraph_t graph = nullptr;
  const Status ended = check(cudaStreamEndCapture(stream_.get(), &graph), "end a capture");
  if (status) status = ended;
  cudaGraphExec_t executable = nullptr;
  if (status) status = check(cudaGraphInstantiate(&executable, graph, 0), "instantiate a graph");
  if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
  c.graph.reset(executable);
  return status;
}

// Seconds of `replays` replays.
Result<double> Timer::time(const Contender& c, int replays) const {
  Status status;
  // The host's launch is hidden behind a replay that is not timed, unless it is too short to be seen.
  if (replays > 1) status = check(cudaGraphLaunch(c.graph.get(), stream_.get()), "replay a graph");
  if (status) status = check(cudaEventRecord(begin_.get(), stream_.get()), "record an event");
  for (int i = 0; i < replays && status; ++i) {
    status = check(cudaGraphLaunch(c.graph.get(), stream_.get()), "replay a graph");
  }
  if (status) status = check(cudaEventRecord(end_.get(), stream_.get()), "record an event");
  if (status) status = check(cudaEventSynchronize(end_.get()), "run a graph");
  float ms = 0;
  if (status) status = check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), "read an event");
  if (!status) return status;
  return 1e-3 * static_cast<double>(ms);
}

Result<std::vector<core::EntryTimes>> Timer::run(std::int64_t tokens, const std::vector<core::Candidate>& list) {
  const DeviceScope scope(device_.device.index);
  if (!scope.status()) return scope.status();
  const core::Query asked = query(tokens);
  std::vector<Contender> all;
  for (core::EntryTimes& times : core::contenders(list, DeviceType::cuda, options_)) {
    all.emplace_back().times = std::move(times);
  }
  if (Status status = make_operands(asked, all); !status) return status;
  RunArgs args;
  args.x = x_.data();
  args.ldx = spec_.d_in;
  args.y = y_.data();
  args.ldy = spec_.d_out;
  args.tokens = tokens;
  args.stream = stream_.get();
  args.workspace = workspace_.data();
  args.workspace_bytes = workspace_.size();
  for (Contender& c : all) {
    if (!c.times.skipped.empty()) continue;
    if (Status status = capture(c, args); !status) return status;
    Result<double> once = time(c, 1);
    if (once && *once < kLeastSample) once = time(c, 1);  // the first replay uploads the graph
    if (!once) return once.status();
    c.replays = static_cast<int>(std::clamp(std::ceil(kLeastSample / *once), 1.0, double{kMostReplays}));
    c.times.runs_a_sample = c.replays * static_cast<int>(copies_.size());
  }
  for (bool more = true; more;) {
    more = false;
    for (Contender& c : all) {
      if (core::sampled(c.times, c.spent, options_)) continue;
      const Result<double> seconds = time(c, c.replays);
      if (!seconds) return seconds.status();
      c.times.samples.push_back(*seconds / c.times.runs_a_sample);
      c.spent += *seconds;
      more = true;
    }
  }
  std::vector<core::EntryTimes> out;
  out.reserve(all.size());
  for (Contender& c : all) out.push_back(std::move(c.times));
  return out;
}

}  // namespace
}  // namespace fusedmlp::cuda

namespace fusedmlp::core {

Result<std::unique_ptr<EntryTimer>> make_cuda_timer(const MlpSpec& spec, const DeviceInfo& device,
                                                    const MeasureOptions& options) {
  return cuda::Timer::create(spec, device, options);
}

}  // namespace fusedmlp::core
