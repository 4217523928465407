// cpu.amx_columns: few tokens. All rows go together as tiles; the threads divide the hidden's columns, then, when all
// of it is there, the output's, in one parallel region. Every weight is read once; nothing is summed across threads,
// so the bits do not depend on their number.
#include "core/cost_model.h"
#include "core/format.h"
#include "cpu/amx_driver.h"
#include "cpu/chunks.h"
#include "cpu/drivers.h"
#include "cpu/partition.h"

namespace fusedmlp::cpu {
namespace {

// Beyond this the hidden of all rows outgrows L2, and rows are better divided: 512 tokens of GeGLU 768x3072 took 12.1
// ms by columns and 10.3 ms by rows.
constexpr std::int64_t kMostTokens = 256;

// What is done of it: slices are worth their sums only when more than two pairs of rows share one.
AmxBlocking blocking_of(const AmxBlocking& most, std::int64_t tokens, const MlpSpec& spec) {
  const std::int64_t x = ceil_div(spec.d_in, kTileK) * kTileK;
  const std::int64_t all = ceil_div(spec.d_hidden, kTileK) * kTileK;
  if (tokens <= 2 * kPairRows) return {tokens, all, all, x};
  const std::int64_t hidden = std::min(most.hidden, all);
  return {tokens, hidden, std::min(most.down_k, hidden), std::min(most.up_k, x)};
}

// Tiles of a chunk of the hidden's columns: small enough that the last ones end together.
std::int64_t hidden_chunk_tiles(const Split& parts) {
  constexpr std::int64_t kChunks = 16;
  return parts.parts() == 1 ? parts.largest() : ceil_div(parts.largest(), kChunks);
}

// Down panels of a chunk: each chunk reads all of the hidden, `pairs` of rows, which shall be half as much as its
// weights; but two chunks a part at least, for the faster thread to take one of the other's.
std::int64_t down_chunk_panels(const Split& parts, std::int64_t pairs) {
  constexpr std::int64_t kMostChunks = 8, kFewestChunks = 2;
  const std::int64_t part = parts.largest();
  if (parts.parts() == 1) return part;
  return std::min(std::max(ceil_div(part, kMostChunks), 2 * pairs), ceil_div(part, kFewestChunks));
}

struct Layout {
  Layout(Scratch& scratch, const AmxBlocking& most, const core::Query& query, const PackedShape& shape)
      : x{scratch.bytes(strip_bytes(query.tokens, query.spec.d_in)), query.tokens, ceil_div(query.spec.d_in, kTileK)},
        hidden{scratch.bytes(strip_bytes(query.tokens, query.spec.d_hidden)), query.tokens,
               ceil_div(query.spec.d_hidden, kTileK)},
        biases(query.packed ? nullptr : scratch.floats(AmxJob::bias_floats(shape))),
        blocking(blocking_of(most, query.tokens, query.spec)),
        hidden_parts(hidden.k_tiles, query.threads),
        down_parts(down_split(shape, DType::bf16, query.threads)),
        x_chunks(scratch, Split(ceil_div(query.tokens, kTileHeight), query.threads), 1),
        hidden_chunks(scratch, hidden_parts, hidden_chunk_tiles(hidden_parts)),
        down_chunks(scratch, down_parts, down_chunk_panels(down_parts, hidden.pairs())) {}

  AmxStrip x;
  AmxStrip hidden;
  float* biases;
  AmxBlocking blocking;
  Split hidden_parts;  // tiles of the hidden, whole ones, so that no two threads write to one cache line
  Split down_parts;    // panels
  Chunks x_chunks;     // row tiles to make
  Chunks hidden_chunks;
  Chunks down_chunks;
};

struct TaskScratch {
  TaskScratch(Scratch& scratch, const core::Query& query, const Layout& layout)
      : sums_per_panel(layout.blocking.hidden < query.spec.d_hidden),
        sums(layout.blocking.down_k < query.spec.d_hidden
                 ? scratch.floats((sums_per_panel ? layout.down_chunks.chunk() : 1) * layout.hidden.pairs() *
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
  std::byte* scratch;
  std::size_t scratch_step;

  TaskScratch of(int index) const {
    Scratch mine(scratch + static_cast<std::size_t>(index) * scratch_step);
    return {mine, query, layout};
  }
};

void hidden_chunk(const Shared& s, int index, Range chunk, const TaskScratch& task) {
  const std::int64_t per_tile = kTileK / s.job.shape.columns_per_hidden_panel;
  const std::int64_t end = std::min(chunk.end * per_tile, s.job.shape.hidden_panels);
  // Most likely what this thread takes next.
  const std::byte* ahead = nullptr;
  if (s.job.down.packed()) {
    ahead = chunk.end == s.layout.hidden_parts[index].end ? s.job.down.address(s.layout.down_parts[index].begin, 0)
                                                          : s.job.hidden.address(end, 0);
  }
  hidden_panels(s.job, s.layout.x, chunk.begin * per_tile, end, s.layout.hidden,
                {s.layout.blocking.up_k, 0, task.up_sums}, ahead, task.own);
}

void down_chunk(const Shared& s, Range panels, const TaskScratch& task) {
  // A piece of the hidden stays in L2 while all panels are multiplied with it.
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
    const std::byte* ahead = nullptr;
    if (s.job.down.packed()) {
      ahead = h1 < s.job.spec.d_hidden ? s.job.down.address(panels.begin, h1) : s.job.down.address(panels.end, 0);
    }
    down_panels(s.job, s.layout.hidden, panels.begin, panels.end, down, ahead, task.own);
  }
}

void task(void* context, int index) {
  const Shared& s = *static_cast<const Shared*>(context);
  const Layout& layout = s.layout;
  layout.x_chunks.work(index, [&](Range tiles) {
    pack_strip(static_cast<const std::byte*>(s.args.x), s.args.ldx * 2, s.job.spec.d_in, layout.x, tiles.begin,
               tiles.end);
  });
  const TaskScratch own = s.of(index);
  const AmxTileScope tiles(s.job.kernels, s.args.tokens);
  layout.x_chunks.wait();
  layout.hidden_chunks.work(index, [&](Range chunk) { hidden_chunk(s, index, chunk, own); });
  layout.hidden_chunks.wait();
  layout.down_chunks.work(index, [&](Range panels) { down_chunk(s, panels, own); });
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
  Shared shared{job, args, query, layout, static_cast<std::byte*>(args.workspace) + scratch.used(), measure.used()};
  args.executor->parallel(query.threads, &task, &shared);
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
