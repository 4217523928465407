// cpu.columns: few tokens. All rows go together; the threads divide the hidden's columns, then, when all of it is
// there, the output's, in one parallel region. Every weight is read once, by one thread; nothing is summed across
// threads, so the bits do not depend on their number.
#include <cstring>

#include "core/cost_model.h"
#include "cpu/chunks.h"
#include "cpu/drivers.h"
#include "cpu/product.h"
#include "cpu/scratch.h"

namespace fusedmlp::cpu {
namespace {

// Beyond this the hidden (fp32, all of it) outgrows the caches.
constexpr std::int64_t kMostTokens = 1024;

// Below about this much work on one core, waking another costs more than it saves (in parallel regions).
constexpr double kWorthWaking = 3.0;

double one_core_seconds(const core::Query& query) {
  const double weights = core::weight_bytes(query.spec);
  return std::max(flops(query.spec, query.tokens) / core::peak_flops(query.device, query.spec.dtype, 1),
                  weights / core::read_bandwidth(query.device, weights, 1));
}

// Panels of one row that are activated together.
constexpr std::int64_t kRowPanels = 16;

int task_count(const core::Query& query) {
  if (query.threads == 1) return 1;
  return one_core_seconds(query) < kWorthWaking * query.device.launch_seconds ? 1 : query.threads;
}

// Panels of a chunk: small enough that the last ones end together. Cuts keep to what shares a line of output.
std::int64_t chunk_of(const Split& parts) {
  constexpr std::int64_t kChunks = 16;
  if (parts.parts() <= 1) return parts.largest();
  return ceil_div(ceil_div(parts.largest(), kChunks), parts.group()) * parts.group();
}

// x is read in place when it is fp32 and one row tile covers all rows.
bool copies_x(const MlpSpec& spec, std::int64_t tokens, int tile_rows) {
  return spec.dtype != DType::f32 || tokens > tile_rows;
}

struct Layout {
  Layout(Scratch& scratch, const core::Query& query, const IsaKernels& isa, const PackedShape& shape, int tasks)
      : ldx(scratch_ld(query.spec.d_in)),
        ldh(scratch_ld(query.spec.d_hidden + shape.columns_per_hidden_panel)),
        hidden_parts(hidden_split(shape, tasks)),
        down_parts(down_split(shape, query.spec.dtype, tasks)),
        hidden_chunks(scratch, hidden_parts, chunk_of(hidden_parts)),
        down_chunks(scratch, down_parts, chunk_of(down_parts)) {
    if (copies_x(query.spec, query.tokens, isa.tile_rows)) x = scratch.floats(query.tokens * ldx);
    hidden = scratch.floats(query.tokens * ldh);
    if (!query.packed) biases = scratch.floats(static_cast<std::int64_t>(Job::bias_floats(shape, isa.lanes)));
    tile_floats = (query.tokens == 1 ? kRowPanels : query.tokens) * 2 * isa.lanes;
    tiles = scratch.floats(tasks * tile_floats);
    slice_step = slice_bytes(query.spec.dtype, isa.lanes, query.packed);
    slices = scratch.bytes(static_cast<std::size_t>(tasks) * slice_step);
  }

  std::int64_t ldx;
  std::int64_t ldh;    // room for the last panel's columns beyond d_hidden, which are written and never read
  Split hidden_parts;  // panels
  Split down_parts;
  Chunks hidden_chunks;
  Chunks down_chunks;
  std::int64_t tile_floats;
  std::size_t slice_step;
  float* x = nullptr;
  float* hidden;
  float* biases = nullptr;
  float* tiles;
  std::byte* slices;
};

std::size_t workspace_bytes(const core::Query& query) {
  const IsaKernels& isa = *isa_kernels(query.device.isa);
  Scratch scratch(nullptr);
  Layout(scratch, query, isa, PackedShape(query.spec, isa.lanes), task_count(query));
  return scratch.used();
}

// One row and weights that stay in L2: a call is so short that every panel's own call and prefetches would show.
bool resident_row(const core::Query& query) {
  return query.tokens == 1 && query.packed && 2 * core::weight_bytes(query.spec) <= query.device.l2_bytes;
}

struct Shared {
  const Job& job;
  const RunArgs& args;
  const Layout& layout;
  RowTiles tiles;
  const float* x;
  std::int64_t ldx;
};

// The hidden of one row. Panels stand one below the other in `c` as rows of a panel do, so that one pass activates
// them all: a panel at a time would wait for one short chain after another. Their biases, which differ, go in as
// what is accumulated on.
void hidden_row(const Shared& s, Range panels, float* c, std::byte* slice) {
  alignas(64) static constexpr float kNoBias[2 * kMaxLanes] = {};
  const std::int64_t panel_floats = 2 * s.job.isa.lanes;
  const std::int64_t width = s.job.shape.columns_per_hidden_panel;
  for (std::int64_t p = panels.begin; p < panels.end; p += kRowPanels) {
    const std::int64_t count = std::min(kRowPanels, panels.end - p);
    std::memcpy(c, s.job.hidden_bias + p * panel_floats,
                static_cast<std::size_t>(count * panel_floats) * sizeof(float));
    for (std::int64_t i = 0; i < count; ++i) {
      panel_product(s.job.isa, s.job.spec.dtype, s.job.hidden, p + i, 0, s.job.spec.d_in, s.x, s.ldx, s.tiles,
                    c + i * panel_floats, true, slice);
    }
    s.job.isa.hidden(s.job.spec, c, kNoBias, s.layout.hidden + p * width, width, static_cast<int>(count));
  }
}

// c[count, 2 * lanes] = panels [begin, end) times a row, on their biases.
void row_product(const Job& job, const PanelSource& source, const float* bias, const float* a, Range panels,
                 float* c) {
  const std::int64_t panel_floats = 2 * job.isa.lanes;
  std::memcpy(c, bias + panels.begin * panel_floats,
              static_cast<std::size_t>(panels.size() * panel_floats) * sizeof(float));
  job.isa.row[static_cast<int>(job.spec.dtype)](a, source.address(panels.begin, 0), source.panel_stride(),
                                                panels.size(), source.k(), c);
}

void run_resident_row(const Shared& s) {
  alignas(64) static constexpr float kNoBias[2 * kMaxLanes] = {};
  const Job& job = s.job;
  float* c = s.layout.tiles;
  const std::int64_t width = job.shape.columns_per_hidden_panel;
  for (std::int64_t p = 0; p < job.shape.hidden_panels; p += kRowPanels) {
    const Range panels{p, std::min(p + kRowPanels, job.shape.hidden_panels)};
    row_product(job, job.hidden, job.hidden_bias, s.x, panels, c);
    job.isa.hidden(job.spec, c, kNoBias, s.layout.hidden + p * width, width, static_cast<int>(panels.size()));
  }
  const std::int64_t columns = job.shape.columns_per_down_panel;
  for (std::int64_t q = 0; q < job.shape.down_panels; q += kRowPanels) {
    const Range panels{q, std::min(q + kRowPanels, job.shape.down_panels)};
    row_product(job, job.down, job.down_bias, s.layout.hidden, panels, c);
    const std::int64_t whole = panels.size() - (panels.end * columns > job.spec.d_out ? 1 : 0);
    auto* y = static_cast<std::byte*>(s.args.y) + static_cast<std::size_t>(q * columns) * size_of(job.spec.dtype);
    job.isa.store(job.spec.dtype, c, nullptr, y, columns, static_cast<int>(whole), static_cast<int>(columns));
    if (whole < panels.size()) {
      job.isa.store(job.spec.dtype, c + whole * columns, nullptr,
                    y + static_cast<std::size_t>(whole * columns) * size_of(job.spec.dtype), columns, 1,
                    static_cast<int>(job.spec.d_out - (panels.end - 1) * columns));
    }
  }
}

// What other threads wrote: asked for at once, where the first panel's loads would wait for one line after another.
void draw_in(const float* row, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 16) __builtin_prefetch(row + i, 0, 3);
}

void task(void* context, int index) {
  const Shared& s = *static_cast<const Shared*>(context);
  const MlpSpec& spec = s.job.spec;
  const bool one_row = s.args.tokens == 1;
  const std::int64_t width = s.job.shape.columns_per_hidden_panel;
  float* tile = s.layout.tiles + index * s.layout.tile_floats;
  std::byte* slice = s.layout.slices + static_cast<std::size_t>(index) * s.layout.slice_step;
  if (one_row) draw_in(s.x, spec.d_in);
  s.layout.hidden_chunks.work(index, [&](Range panels) {
    if (one_row) return hidden_row(s, panels, tile, slice);
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      hidden_panel(s.job, p, s.x, s.ldx, s.tiles, s.layout.hidden + p * width, s.layout.ldh, tile, slice);
    }
  });
  s.layout.hidden_chunks.wait();
  if (one_row) draw_in(s.layout.hidden, spec.d_hidden);
  s.layout.down_chunks.work(index, [&](Range panels) {
    for (std::int64_t q = panels.begin; q < panels.end; ++q) {
      panel_product(s.job.isa, spec.dtype, s.job.down, q, 0, spec.d_hidden, s.layout.hidden, s.layout.ldh, s.tiles,
                    tile, false, slice);
      store_panel(s.job, q, tile, s.tiles, s.args.y, s.args.ldy);
    }
  });
}

Status run(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  Job job(problem, device);
  const core::Query query{problem.spec, args.tokens, device, args.executor->concurrency(), problem.packed != nullptr};
  const int tasks = task_count(query);
  Scratch scratch(args.workspace);
  const Layout layout(scratch, query, job.isa, job.shape, tasks);
  job.set_biases(problem, layout.biases);
  Shared shared{job,     args, layout, RowTiles(args.tokens, job.isa.tile_rows), static_cast<const float*>(args.x),
                args.ldx};
  if (layout.x) {
    const std::int64_t step = args.ldx * static_cast<std::int64_t>(size_of(problem.spec.dtype));
    for (std::int64_t r = 0; r < args.tokens; ++r) {
      job.isa.widen(problem.spec.dtype, static_cast<const std::byte*>(args.x) + r * step, layout.x + r * layout.ldx,
                    problem.spec.d_in);
    }
    shared.x = layout.x;
    shared.ldx = layout.ldx;
  }
  if (resident_row(query)) {
    run_resident_row(shared);
    return {};
  }
  args.executor->parallel(tasks, &task, &shared);
  return {};
}

std::string unsupported(const core::Query& query) {
  if (query.tokens > kMostTokens) {
    return "for at most " + std::to_string(kMostTokens) + " tokens: the hidden would leave the caches";
  }
  return unsupported_isa(query);
}

core::Prediction predict(const core::Query& query) {
  const IsaKernels& isa = *isa_kernels(query.device.isa);
  const int tasks = task_count(query);
  const int threads = core::usable_threads(query.device, tasks);
  const double tokens = static_cast<double>(query.tokens);
  const double l3 = query.device.l3_bandwidth_per_core * threads;
  // Rows beyond L2 are read again from L3 for every panel; prefetching hides about half of that.
  const PackedShape shape(query.spec, isa.lanes);
  const double x_bytes = tokens * static_cast<double>(query.spec.d_in) * sizeof(float);
  const double spill = std::max(0.0, x_bytes - 0.75 * static_cast<double>(query.device.l2_bytes)) *
                       static_cast<double>(shape.hidden_panels);
  const double unpacked = query.packed ? 1.0 : 1.0 + kUnpackedPenaltyRows / tokens;
  const double compute = core::compute_seconds(query.spec, query.tokens, query.device, threads) /
                             tile_efficiency(query.tokens, isa.tile_rows) / kProductEfficiency * unpacked +
                         0.5 * spill / l3;
  const double weights = core::weight_bytes(query.spec);
  const double hidden = tokens * static_cast<double>(query.spec.d_hidden) * sizeof(float);
  const double hidden_traffic = hidden <= 0.5 * static_cast<double>(query.device.l2_bytes) ? 0 : 2 * hidden / l3;
  const double memory = weights / core::read_bandwidth(query.device, weights, threads) + hidden_traffic;
  // Starting and ending a region; waiting for the hidden within it takes about as long.
  return core::combine(compute, memory, tasks > 1 ? 2 * query.device.launch_seconds : 0.0, Basis::modelled);
}

}  // namespace

const core::KernelEntry& columns_kernel() {
  static const core::KernelEntry entry{"cpu.columns",
                                       "all rows at once, threads divide the hidden's and the output's columns",
                                       &panel_layout(),
                                       &unsupported,
                                       &workspace_bytes,
                                       &predict,
                                       &run};
  return entry;
}

}  // namespace fusedmlp::cpu
