// cpu.amx_columns: few tokens. All rows go together as tiles; the threads divide the hidden's columns, then, after
// one join, the output's. Every weight is read once; nothing is summed across threads, so the bits do not depend on
// their number.
#include "core/cost_model.h"
#include "core/format.h"
#include "cpu/amx_driver.h"
#include "cpu/drivers.h"
#include "cpu/partition.h"

namespace fusedmlp::cpu {
namespace {

// Beyond this the hidden of all rows outgrows L2, and rows are better divided: 512 tokens of GeGLU 768x3072 took 12.1
// ms by columns and 10.3 ms by rows.
constexpr std::int64_t kMostTokens = 256;

// Rows that are turned into tiles by the caller alone: below about this much, waking a thread costs more.
constexpr std::int64_t kPackAloneBytes = 128 << 10;

// What is done of it: slices are worth their sums only when several pairs of rows share one.
AmxBlocking blocking_of(const AmxBlocking& most, std::int64_t tokens, const MlpSpec& spec) {
  const std::int64_t x = ceil_div(spec.d_in, kTileK) * kTileK;
  const std::int64_t all = ceil_div(spec.d_hidden, kTileK) * kTileK;
  if (tokens <= kPairRows) return {tokens, all, all, x};
  const std::int64_t hidden = std::min(most.hidden, all);
  return {tokens, hidden, std::min(most.down_k, hidden), std::min(most.up_k, x)};
}

struct Layout {
  Layout(Scratch& scratch, const AmxBlocking& most, const core::Query& query, const PackedShape& shape)
      : x{scratch.bytes(strip_bytes(query.tokens, query.spec.d_in)), query.tokens, ceil_div(query.spec.d_in, kTileK)},
        hidden{scratch.bytes(strip_bytes(query.tokens, query.spec.d_hidden)), query.tokens,
               ceil_div(query.spec.d_hidden, kTileK)},
        biases(query.packed ? nullptr : scratch.floats(AmxJob::bias_floats(shape))),
        blocking(blocking_of(most, query.tokens, query.spec)),
        down_panels(down_split(shape, DType::bf16, query.threads)) {}

  AmxStrip x;
  AmxStrip hidden;
  float* biases;
  AmxBlocking blocking;
  Split down_panels;
};

struct TaskScratch {
  TaskScratch(Scratch& scratch, const core::Query& query, const Layout& layout)
      : sums_per_panel(layout.blocking.hidden < query.spec.d_hidden),
        sums(layout.blocking.down_k < query.spec.d_hidden
                 ? scratch.floats((sums_per_panel ? layout.down_panels.largest() : 1) * layout.hidden.pairs() *
                                  kBlockFloats)
                 : nullptr),
        up_sums(layout.blocking.up_k < query.spec.d_in ? scratch.floats(layout.x.pairs() * kBlockFloats) : nullptr),
        own(scratch, query, std::max(layout.blocking.up_k, layout.blocking.down_k)) {}

  bool sums_per_panel;
  float* sums;
  float* up_sums;
  AmxScratch own;
};

struct Shared {
  const AmxJob& job;
  const RunArgs& args;
  const core::Query& query;
  const Layout& layout;
  int tasks;
  std::byte* scratch;
  std::size_t scratch_step;

  TaskScratch of(int index) const {
    Scratch mine(scratch + static_cast<std::size_t>(index) * scratch_step);
    return {mine, query, layout};
  }
};

void pack_rows(const Shared& s, int index, int tasks) {
  const Range tiles = Split(ceil_div(s.args.tokens, kTileHeight), tasks)[index];
  pack_strip(static_cast<const std::byte*>(s.args.x), s.args.ldx * 2, s.job.spec.d_in, s.layout.x, tiles.begin,
             tiles.end);
}

void pack_task(void* context, int index) {
  const Shared& s = *static_cast<const Shared*>(context);
  pack_rows(s, index, s.tasks);
}

// Whole tiles of the hidden, so that no two threads write to one cache line.
Range hidden_part(const Shared& s, int index) {
  const std::int64_t per_tile = kTileK / s.job.shape.columns_per_hidden_panel;
  const Range tiles = Split(s.layout.hidden.k_tiles, s.tasks)[index];
  return {tiles.begin * per_tile, std::min(tiles.end * per_tile, s.job.shape.hidden_panels)};
}

void hidden_task(void* context, int index) {
  const Shared& s = *static_cast<const Shared*>(context);
  const TaskScratch task = s.of(index);
  const AmxTileScope tiles(s.job.kernels, s.args.tokens);
  const Range panels = hidden_part(s, index);
  const std::int64_t first_down = s.layout.down_panels[index].begin;
  const std::byte* ahead = s.job.down.packed() ? s.job.down.address(first_down, 0) : nullptr;
  if (panels.size() > 0) {
    hidden_panels(s.job, s.layout.x, panels.begin, panels.end, s.layout.hidden,
                  {s.layout.blocking.up_k, 0, task.up_sums}, ahead, task.own);
  }
}

void down_task(void* context, int index) {
  const Shared& s = *static_cast<const Shared*>(context);
  const TaskScratch task = s.of(index);
  const AmxTileScope tiles(s.job.kernels, s.args.tokens);
  const Range panels = s.layout.down_panels[index];
  // A chunk of the hidden stays in L2 while all panels are multiplied with it.
  for (std::int64_t h0 = 0; h0 < s.job.spec.d_hidden; h0 += s.layout.blocking.hidden) {
    const std::int64_t h1 = std::min(h0 + s.layout.blocking.hidden, s.job.spec.d_hidden);
    const AmxDown down{h0,
                       h1,
                       s.layout.blocking.down_k,
                       0,
                       task.sums,
                       task.sums_per_panel,
                       static_cast<std::byte*>(s.args.y),
                       s.args.ldy * 2};
    const bool more = h1 < s.job.spec.d_hidden && s.job.down.packed();
    down_panels(s.job, s.layout.hidden, panels.begin, panels.end, down,
                more ? s.job.down.address(panels.begin, h1) : nullptr, task.own);
  }
}

AmxBlocking default_blocking(const core::Query& query) { return {kMostTokens, 768, 768, amx_up_k(query.spec)}; }

std::size_t workspace_bytes(const core::Query& query) { return amx_columns_bytes(default_blocking(query), query); }

template <const AmxKernels& (*kKernels)()>
Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const core::Query query{problem.spec, args.tokens, device, args.executor->concurrency(), problem.packed != nullptr};
  run_amx_columns(kKernels(), default_blocking(query), query, problem, args);
  return {};
}

template <std::string (*kUnsupported)(const core::Query&)>
std::string unsupported(const core::Query& query) {
  if (query.tokens > kMostTokens) {
    return core::format("for at most {} tokens: the hidden would leave the caches", kMostTokens);
  }
  return kUnsupported(query);
}

core::Prediction predict(const core::Query& query, double efficiency) {
  const int threads = core::usable_threads(query.device, query.threads);
  return amx_prediction(query, efficiency, threads, static_cast<double>(query.tokens) / threads, 1, 2);
}

}  // namespace

std::size_t amx_columns_bytes(const AmxBlocking& blocking, const core::Query& query) {
  Scratch scratch(nullptr);
  const Layout layout(scratch, blocking, query, PackedShape(query.spec, kAmxLanes));
  for (int i = 0; i < query.threads; ++i) TaskScratch(scratch, query, layout);
  return scratch.used();
}

void run_amx_columns(const AmxKernels& kernels, const AmxBlocking& blocking, const core::Query& query,
                     const core::Problem& problem, const RunArgs& args) {
  AmxJob job(problem, kernels);
  Scratch scratch(args.workspace);
  const Layout layout(scratch, blocking, query, job.shape);
  job.set_biases(problem, layout.biases);
  Scratch measure(nullptr);
  TaskScratch(measure, query, layout);
  Shared shared{job,           args,          query,
                layout,        query.threads, static_cast<std::byte*>(args.workspace) + scratch.used(),
                measure.used()};
  if (args.tokens * problem.spec.d_in * 2 <= kPackAloneBytes) {
    pack_rows(shared, 0, 1);
  } else {
    args.executor->parallel(shared.tasks, &pack_task, &shared);
  }
  args.executor->parallel(shared.tasks, &hidden_task, &shared);
  args.executor->parallel(shared.tasks, &down_task, &shared);
}

const core::KernelEntry& amx_columns_kernel() {
  static const core::KernelEntry entry{
      "cpu.amx_columns", "AMX: all rows at once, threads divide the hidden's and the output's columns",
      &panel_layout(),   &unsupported<&unsupported_amx>,
      &workspace_bytes,  [](const core::Query& query) { return predict(query, kAmxEfficiency); },
      &run<&amx_kernels>};
  return entry;
}

const core::KernelEntry& dot_columns_kernel() {
  static const core::KernelEntry entry{
      "cpu.dot_columns", "AVX512-BF16: all rows at once, threads divide the hidden's and the output's columns",
      &panel_layout(),   &unsupported<&unsupported_dot>,
      &workspace_bytes,  [](const core::Query& query) { return predict(query, kDotEfficiency); },
      &run<&dot_kernels>};
  return entry;
}

}  // namespace fusedmlp::cpu
