// cpu.rows: many tokens. A task owns blocks of rows and takes each through the whole MLP: a chunk of the hidden
// is computed, activated and multiplied into the block's output before the next chunk, so the hidden never
// leaves the core's cache. Weights stream through once per block.
#include <atomic>

#include "core/cost_model.h"
#include "cpu/drivers.h"
#include "cpu/product.h"
#include "cpu/scratch.h"

namespace fusedmlp::cpu {
namespace {

// Hidden units of one chunk: as long as one pass of a tile over k, so that a chunk is one pass of the second
// product.
constexpr std::int64_t kChunk = kBlockK;

// The block's fp32 input should fill at most a fifth of L2: with three fifths 1024 tokens of 768x3072 took 4 to 9 %
// more on a Xeon with 2 MiB; on Zen 3 with 512 KiB it makes no difference.
RowBlocks blocking(const core::Query& query, int tile_rows) {
  return row_blocks(query.tokens, {.tile_rows = tile_rows,
                                   .row_bytes = static_cast<std::size_t>(scratch_ld(query.spec.d_in)) * sizeof(float),
                                   .cache_bytes = query.device.l2_bytes / 5,
                                   .threads = query.threads});
}

struct TaskScratch {
  TaskScratch(Scratch& scratch, const core::Query& query, const IsaKernels& isa, const PackedShape& shape,
              const RowBlocks& blocks)
      : x(scratch.floats(blocks.largest() * scratch_ld(query.spec.d_in))),
        hidden(scratch.floats(blocks.largest() * scratch_ld(kChunk))),
        tile(scratch.floats(blocks.largest() * 2 * isa.lanes)),
        y(scratch.floats(shape.down_panels * blocks.largest() * 2 * isa.lanes)),
        slice(scratch.bytes(slice_bytes(query.spec.dtype, isa.lanes, query.packed))) {}

  float* x;       // [rows][scratch_ld(d_in)]
  float* hidden;  // [rows][scratch_ld(kChunk)]
  float* tile;    // one panel's products
  float* y;       // [down_panels] of those, sums over the chunks
  std::byte* slice;
};

std::size_t workspace_bytes(const core::Query& query) {
  const IsaKernels& isa = *isa_kernels(query.device.isa);
  const PackedShape shape(query.spec, isa.lanes);
  const RowBlocks blocks = blocking(query, isa.tile_rows);
  Scratch scratch(nullptr);
  if (!query.packed) scratch.floats(static_cast<std::int64_t>(Job::bias_floats(shape, isa.lanes)));
  for (int i = 0; i < blocks.tasks; ++i) TaskScratch(scratch, query, isa, shape, blocks);
  return scratch.used();
}

void run_block(const Job& job, const RunArgs& args, std::int64_t row0, std::int64_t rows, const TaskScratch& own) {
  const MlpSpec& spec = job.spec;
  const std::int64_t ldx = scratch_ld(spec.d_in);
  const std::int64_t ldh = scratch_ld(kChunk);
  const std::int64_t element = static_cast<std::int64_t>(size_of(spec.dtype));
  const auto* x = static_cast<const std::byte*>(args.x) + row0 * args.ldx * element;
  auto* y = static_cast<std::byte*>(args.y) + row0 * args.ldy * element;
  for (std::int64_t r = 0; r < rows; ++r) {
    job.isa.widen(spec.dtype, x + r * args.ldx * element, own.x + r * ldx, spec.d_in);
  }
  const RowTiles tiles(rows, job.isa.tile_rows);
  const std::int64_t width = job.shape.columns_per_hidden_panel;
  const std::int64_t y_tile = rows * 2 * job.isa.lanes;
  for (std::int64_t h0 = 0; h0 < spec.d_hidden; h0 += kChunk) {
    const std::int64_t h1 = std::min(h0 + kChunk, spec.d_hidden);
    for (std::int64_t h = h0; h < h1; h += width) {
      hidden_panel(job, h / width, own.x, ldx, tiles, own.hidden + (h - h0), ldh, own.tile, own.slice);
    }
    for (std::int64_t q = 0; q < job.shape.down_panels; ++q) {
      float* sums = own.y + q * y_tile;
      panel_product(job.isa, spec.dtype, job.down, q, h0, h1, own.hidden, ldh, tiles, sums, h0 > 0, own.slice);
      if (h1 == spec.d_hidden) store_panel(job, q, sums, tiles, y, args.ldy);
    }
  }
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  Job job(problem, device);
  const core::Query query{problem.spec, args.tokens, device, args.executor->concurrency(), problem.packed != nullptr};
  const RowBlocks blocks = blocking(query, job.isa.tile_rows);
  Scratch scratch(args.workspace);
  float* biases =
      query.packed ? nullptr : scratch.floats(static_cast<std::int64_t>(Job::bias_floats(job.shape, job.isa.lanes)));
  job.set_biases(problem, biases);

  struct Shared {
    const Job& job;
    const RunArgs& args;
    const core::Query& query;
    const RowBlocks& blocks;
    std::byte* scratch;
    std::size_t scratch_step;
    std::atomic<std::int64_t> next{0};
  };
  std::byte* first = static_cast<std::byte*>(args.workspace) + scratch.used();
  Scratch measure(nullptr);
  TaskScratch(measure, query, job.isa, job.shape, blocks);
  Shared shared{job, args, query, blocks, first, measure.used()};
  // Blocks are taken as threads come free; which thread computes a block changes nothing in its bits.
  const auto task = [](void* context, int index) {
    Shared& s = *static_cast<Shared*>(context);
    Scratch mine(s.scratch + static_cast<std::size_t>(index) * s.scratch_step);
    const TaskScratch own(mine, s.query, s.job.isa, s.job.shape, s.blocks);
    for (;;) {
      const std::int64_t block = s.next.fetch_add(1, std::memory_order_relaxed);
      if (block >= s.blocks.count()) return;
      const Range rows = s.blocks[block];
      run_block(s.job, s.args, rows.begin, rows.size(), own);
    }
  };
  args.executor->parallel(blocks.tasks, task, &shared);
  return {};
}

core::Prediction predict(const core::Query& query) {
  const IsaKernels& isa = *isa_kernels(query.device.isa);
  const RowBlocks blocks = blocking(query, isa.tile_rows);
  const int threads = core::usable_threads(query.device, blocks.tasks);
  // The slowest thread's share of the rows decides.
  const std::int64_t blocks_each = ceil_div(blocks.count(), threads);
  const auto rounds = static_cast<double>(blocks_each);
  const double rows = std::min(rounds * static_cast<double>(blocks.largest()), static_cast<double>(query.tokens));
  const double per_row = flops(query.spec, 1) / core::peak_flops(query.device, query.spec.dtype, 1);
  const double compute = rows * per_row / tile_efficiency(blocks.largest(), isa.tile_rows) / kProductEfficiency *
                         (query.packed ? 1.0 : 1.0 + kUnpackedPenaltyRows / static_cast<double>(blocks.largest()));
  const double streamed = core::weight_bytes(query.spec);
  const double memory = rounds * threads * streamed / core::read_bandwidth(query.device, streamed, threads);
  return core::combine(compute, memory, threads > 1 ? query.device.launch_seconds : 0.0, Basis::modelled);
}

}  // namespace

const core::KernelEntry& rows_kernel() {
  static const core::KernelEntry entry{"cpu.rows",
                                       "row blocks through both products, hidden in cache chunk by chunk",
                                       &panel_layout(),
                                       &unsupported_isa,
                                       &workspace_bytes,
                                       &predict,
                                       &run};
  return entry;
}

}  // namespace fusedmlp::cpu
