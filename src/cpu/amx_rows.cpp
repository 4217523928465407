// cpu.amx_rows: many tokens. A task owns blocks of rows; the hidden of a block is computed a chunk at a time as
// tiles in L2 and multiplied on at once. Weights stream through once per block.
#include <atomic>

#include "core/cost_model.h"
#include "cpu/amx_driver.h"
#include "cpu/drivers.h"
#include "cpu/partition.h"

namespace fusedmlp::cpu {
namespace {

RowBlocks blocks_of(std::int64_t tokens, std::int64_t d_in, int threads, const AmxBlocking& blocking) {
  RowBlocking rows;
  rows.tile_rows = 8;  // eight of which are the fewest rows of a block, and 32 the most
  rows.unit = kPairRows;
  rows.row_bytes = static_cast<std::size_t>(2 * d_in);
  rows.cache_bytes = static_cast<std::size_t>(blocking.rows) * rows.row_bytes;
  rows.threads = threads;
  return row_blocks(tokens, rows);
}

struct TaskScratch {
  TaskScratch(Scratch& scratch, const core::Query& query, const PackedShape& shape, const RowBlocks& blocks,
              const AmxBlocking& blocking)
      : x(scratch.bytes(strip_bytes(blocks.largest(), query.spec.d_in))),
        hidden(scratch.bytes(strip_bytes(blocks.largest(), std::min(blocking.hidden, query.spec.d_hidden)))),
        sums_per_panel(blocking.hidden < query.spec.d_hidden),
        sums(scratch.floats((sums_per_panel ? shape.down_panels : 1) * ceil_div(blocks.largest(), kPairRows) *
                            kBlockFloats)),
        up_sums(blocking.up_k < query.spec.d_in ? scratch.floats(ceil_div(blocks.largest(), kPairRows) * kBlockFloats)
                                                : nullptr),
        own(scratch, query,
            std::max(std::min(blocking.up_k, query.spec.d_in), std::min(blocking.down_k, query.spec.d_hidden))) {}

  std::byte* x;
  std::byte* hidden;
  bool sums_per_panel;
  float* sums;
  float* up_sums;
  AmxScratch own;
};

void run_block(const AmxJob& job, const AmxBlocking& blocking, const RunArgs& args, std::int64_t row0,
               std::int64_t rows, const TaskScratch& task) {
  const MlpSpec& spec = job.spec;
  const std::int64_t width = job.shape.columns_per_hidden_panel;
  const AmxStrip x{task.x, rows, ceil_div(spec.d_in, kTileK)};
  pack_strip(static_cast<const std::byte*>(args.x) + row0 * args.ldx * 2, args.ldx * 2, spec.d_in, x, 0,
             ceil_div(rows, kTileHeight));
  const auto ahead = [](const PanelSource& source, std::int64_t panel, std::int64_t k) {
    return source.packed() ? source.address(panel, k) : nullptr;
  };
  for (std::int64_t h0 = 0; h0 < spec.d_hidden; h0 += blocking.hidden) {
    const std::int64_t h1 = std::min(h0 + blocking.hidden, spec.d_hidden);
    const AmxStrip hidden{task.hidden, rows, ceil_div(h1 - h0, kTileK)};
    hidden_panels(job, x, h0 / width, ceil_div(h1, width), hidden, {blocking.up_k, h0, task.up_sums},
                  ahead(job.down, 0, h0), task.own);
    const AmxDown down{h0,
                       h1,
                       blocking.down_k,
                       h0,
                       task.sums,
                       task.sums_per_panel,
                       static_cast<std::byte*>(args.y) + row0 * args.ldy * 2,
                       args.ldy * 2};
    // After the last chunk the next block starts over.
    const std::int64_t next = h1 < spec.d_hidden ? h1 / width : 0;
    down_panels(job, hidden, 0, job.shape.down_panels, down, ahead(job.hidden, next, 0), task.own);
  }
}

AmxBlocking default_blocking(const core::Query& query) {
  // x of a block in half of L2. Fewer rows use each weight too seldom, more gain nothing.
  const auto by_cache = static_cast<std::int64_t>(query.device.l2_bytes / 2) / (2 * query.spec.d_in);
  const std::int64_t rows = std::clamp<std::int64_t>(by_cache / kPairRows * kPairRows, 64, 256);
  return {rows, 768, 768, amx_up_k(query.spec)};
}

std::size_t workspace_bytes(const core::Query& query) { return amx_rows_bytes(default_blocking(query), query); }

template <const AmxKernels& (*kKernels)()>
Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  const core::Query query{problem.spec, args.tokens, device, args.executor->concurrency(), problem.packed != nullptr};
  run_amx_rows(kKernels(), default_blocking(query), query, problem, args);
  return {};
}

core::Prediction predict(const core::Query& query, double efficiency) {
  const AmxBlocking blocking = default_blocking(query);
  const RowBlocks blocks = blocks_of(query.tokens, query.spec.d_in, query.threads, blocking);
  const int threads = core::usable_threads(query.device, blocks.tasks);
  // The slowest thread's share of the rows decides.
  const double rounds = static_cast<double>(ceil_div(blocks.count(), threads));
  const double rows = std::min(rounds * static_cast<double>(blocks.largest()), static_cast<double>(query.tokens));
  core::Prediction prediction = amx_prediction(query, efficiency, threads, rows, rounds * threads, 1);
  // What is read again hardly hides behind the products: 256 tokens took 7 to 14 % longer than by columns (GeGLU
  // 768x3072, SwiGLU 2048x5632).
  const double weights = core::weight_bytes(query.spec);
  prediction.seconds += (rounds * threads - 1) * weights / core::read_bandwidth(query.device, weights, threads);
  return prediction;
}

}  // namespace

std::size_t amx_rows_bytes(const AmxBlocking& blocking, const core::Query& query) {
  const PackedShape shape(query.spec, kAmxLanes);
  const RowBlocks blocks = blocks_of(query.tokens, query.spec.d_in, query.threads, blocking);
  Scratch scratch(nullptr);
  if (!query.packed) scratch.floats(AmxJob::bias_floats(shape));
  for (int i = 0; i < blocks.tasks; ++i) TaskScratch(scratch, query, shape, blocks, blocking);
  return scratch.used();
}

void run_amx_rows(const AmxKernels& kernels, const AmxBlocking& blocking, const core::Query& query,
                  const core::Problem& problem, const RunArgs& args) {
  AmxJob job(problem, kernels);
  const RowBlocks blocks = blocks_of(args.tokens, query.spec.d_in, query.threads, blocking);
  Scratch scratch(args.workspace);
  job.set_biases(problem, query.packed ? nullptr : scratch.floats(AmxJob::bias_floats(job.shape)));

  struct Shared {
    const AmxJob& job;
    const AmxBlocking& blocking;
    const RunArgs& args;
    const core::Query& query;
    const RowBlocks& blocks;
    std::byte* scratch;
    std::size_t scratch_step;
    std::atomic<std::int64_t> next{0};
  };
  std::byte* first = static_cast<std::byte*>(args.workspace) + scratch.used();
  Scratch measure(nullptr);
  TaskScratch(measure, query, job.shape, blocks, blocking);
  Shared shared{job, blocking, args, query, blocks, first, measure.used()};
  // Blocks are taken as threads come free; which thread computes a block changes nothing in its bits.
  const auto task = [](void* context, int index) {
    Shared& s = *static_cast<Shared*>(context);
    Scratch mine(s.scratch + static_cast<std::size_t>(index) * s.scratch_step);
    const TaskScratch own(mine, s.query, s.job.shape, s.blocks, s.blocking);
    const AmxTileScope tiles(s.job.kernels, kTileHeight);
    for (;;) {
      const std::int64_t block = s.next.fetch_add(1, std::memory_order_relaxed);
      if (block >= s.blocks.count()) return;
      const Range rows = s.blocks[block];
      run_block(s.job, s.blocking, s.args, rows.begin, rows.size(), own);
    }
  };
  args.executor->parallel(blocks.tasks, task, &shared);
}

const core::KernelEntry& amx_rows_kernel() {
  static const core::KernelEntry entry{
      "cpu.amx_rows",    "AMX: row blocks through both products, hidden in L2 as tiles",
      &panel_layout(),   &unsupported_amx,
      &workspace_bytes,  [](const core::Query& query) { return predict(query, kAmxEfficiency); },
      &run<&amx_kernels>};
  return entry;
}

const core::KernelEntry& dot_rows_kernel() {
  static const core::KernelEntry entry{
      "cpu.dot_rows",    "AVX512-BF16: row blocks through both products, hidden in L2 as tiles",
      &panel_layout(),   &unsupported_dot,
      &workspace_bytes,  [](const core::Query& query) { return predict(query, kDotEfficiency); },
      &run<&dot_kernels>};
  return entry;
}

}  // namespace fusedmlp::cpu
