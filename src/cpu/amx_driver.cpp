#include "cpu/amx_driver.h"

#include <cstring>

#include "core/cost_model.h"
#include "cpu/drivers.h"

namespace fusedmlp::cpu {
namespace {

// k in [k0, k1) of a panel as steps of tiles. `next` is used after it.
AmxSlice slice_of(const PanelSource& source, std::int64_t panel, std::int64_t k0, std::int64_t k1,
                  const std::byte* next, std::int64_t next_bytes, const AmxScratch& own) {
  AmxSlice slice;
  slice.weights = static_cast<const std::byte*>(source.get(panel, k0, k1, own.slice));
  slice.steps = ceil_div(k1 - k0, kTileK);
  slice.last = slice.weights + (slice.steps - 1) * kStepBytes;
  if (const std::int64_t rest = (k1 - k0) % kTileK; rest != 0) {
    const std::size_t bytes = panel_bytes(DType::bf16, rest, kAmxLanes);
    std::memcpy(own.last, slice.last, bytes);
    std::memset(own.last + bytes, 0, static_cast<std::size_t>(kStepBytes) - bytes);
    slice.last = own.last;
  }
  slice.ahead = next;
  slice.ahead_bytes = next ? next_bytes : 0;
  return slice;
}

// The direction of k in a slice's first pair of rows: the other one than in the last pair of the slice before, so
// that with one pair of rows what L1 holds is used first; one tile's weights are one stream. Of the slice alone, not
// of the chunk that it is computed in.
bool starts_backward(std::int64_t panel, std::int64_t k0, std::int64_t slice_k, std::int64_t k,
                     const AmxStrip& rows) {
  return rows.rows > kTileHeight && (panel * ceil_div(k, slice_k) + k0 / slice_k) * rows.pairs() % 2 != 0;
}

const std::byte* address(const PanelSource& source, std::int64_t panel, std::int64_t k) {
  return source.packed() ? source.address(panel, k) : nullptr;
}

}  // namespace

AmxJob::AmxJob(const core::Problem& problem, const AmxKernels& table)
    : kernels(table),
      spec(problem.spec),
      shape(spec, kAmxLanes),
      hidden_weights(core::resolve(spec, problem.weights)),
      hidden(PanelSource::hidden(spec, hidden_weights, problem.packed, shape, kAmxLanes)),
      down(PanelSource::down(spec, problem.weights.down, problem.packed, shape, kAmxLanes)) {}

void AmxJob::set_biases(const core::Problem& problem, float* scratch) {
  if (problem.packed) {
    const auto* base = static_cast<const std::byte*>(problem.packed);
    hidden_bias = reinterpret_cast<const float*>(base + shape.hidden_bias);
    down_bias = reinterpret_cast<const float*>(base + shape.down_bias);
    return;
  }
  float* down_scratch = scratch + shape.hidden_panels * kPanelWidth;
  make_hidden_bias(spec, hidden_weights, shape, kAmxLanes, scratch);
  make_down_bias(spec, problem.weights.bias_down, shape, kAmxLanes, down_scratch);
  hidden_bias = scratch;
  down_bias = down_scratch;
}

void pack_strip(const std::byte* x, std::int64_t row_bytes, std::int64_t k, const AmxStrip& strip, std::int64_t begin,
                std::int64_t end) {
  constexpr auto kRowBytes = static_cast<std::size_t>(2 * kTileK);
  const std::int64_t whole = k / kTileK;
  const auto rest = static_cast<std::size_t>(k % kTileK) * 2;
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t rows = std::min(kTileHeight, strip.rows - t * kTileHeight);
    const std::byte* from = x + t * kTileHeight * row_bytes;
    for (std::int64_t j = 0; j < strip.k_tiles; ++j, from += kRowBytes) {
      std::byte* to = strip.at(t / 2, j) + t % 2 * kTileBytes;
      for (std::int64_t r = 0; r < rows; ++r, to += kRowBytes) {
        if (j < whole) {
          std::memcpy(to, from + r * row_bytes, kRowBytes);
        } else {
          std::memcpy(to, from + r * row_bytes, rest);
          std::memset(to + rest, 0, kRowBytes - rest);
        }
      }
    }
  }
}

void hidden_panels(const AmxJob& job, const AmxStrip& x, std::int64_t begin, std::int64_t end, const AmxStrip& hidden,
                   const AmxUp& up, const std::byte* ahead, const AmxScratch& own) {
  const std::int64_t width = job.shape.columns_per_hidden_panel;
  const std::int64_t d_in = job.spec.d_in;
  AmxPass pass{job.spec, x, own.block};
  for (std::int64_t p = begin; p < end; ++p) {
    const std::int64_t unit = p * width - up.first_unit;
    for (std::int64_t k0 = 0; k0 < d_in; k0 += up.up_k) {
      const std::int64_t k1 = std::min(k0 + up.up_k, d_in);
      const std::byte* next = k1 < d_in     ? address(job.hidden, p, k1)
                              : p + 1 < end ? address(job.hidden, p + 1, 0)
                                            : ahead;
      const AmxSlice slice = slice_of(job.hidden, p, k0, k1, next, (k1 - k0) * 2 * kPanelWidth, own);
      pass.backward = starts_backward(p, k0, up.up_k, d_in, x);
      const AmxSums sums{up.sums, k0 == 0, k1 == d_in};
      job.kernels.hidden(pass, k0 / kTileK, slice,
                         {sums, hidden, unit / kTileK, unit % kTileK != 0, job.hidden_bias + p * kPanelWidth});
    }
  }
  finish(pass);
  // Columns of the last tile that are no hidden units: an infinite x times their zero weights gave NaN, and so would
  // NaN times the zero weights of the down projection.
  const std::int64_t units = std::min(end * width, job.spec.d_hidden) - up.first_unit;
  if (const std::int64_t filled = units % kTileK; filled != 0) {
    for (std::int64_t pair = 0; pair < hidden.pairs(); ++pair) {
      std::byte* to = hidden.at(pair, units / kTileK) + 2 * filled;
      for (std::int64_t r = 0; r < hidden.rows_in_pair(pair); ++r) {
        std::memset(to + r * 2 * kTileK, 0, static_cast<std::size_t>(2 * (kTileK - filled)));
      }
    }
  }
}

void down_panels(const AmxJob& job, const AmxStrip& hidden, std::int64_t begin, std::int64_t end, const AmxDown& down,
                 const std::byte* ahead, const AmxScratch& own) {
  AmxPass pass{job.spec, hidden, own.block};
  const std::int64_t sums_step = down.sums_per_panel ? hidden.pairs() * kBlockFloats : 0;
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t column = q * kPanelWidth;
    for (std::int64_t k0 = down.h0; k0 < down.h1; k0 += down.down_k) {
      const std::int64_t k1 = std::min(k0 + down.down_k, down.h1);
      const std::byte* next = k1 < down.h1  ? address(job.down, q, k1)
                              : q + 1 < end ? address(job.down, q + 1, down.h0)
                                            : ahead;
      const AmxSlice slice = slice_of(job.down, q, k0, k1, next, (k1 - k0) * 2 * kPanelWidth, own);
      pass.backward = starts_backward(q, k0, down.down_k, job.spec.d_hidden, hidden);
      AmxDownTarget target;
      target.sums = {down.sums ? down.sums + (q - begin) * sums_step : nullptr, k0 == 0, k1 == job.spec.d_hidden};
      target.y = down.y + column * 2;
      target.row_bytes = down.row_bytes;
      target.columns = std::min(kPanelWidth, job.spec.d_out - column);
      target.bias = job.down_bias + column;
      job.kernels.down(pass, (k0 - down.first_unit) / kTileK, slice, target);
    }
  }
  finish(pass);
}

std::string unsupported_amx(const core::Query& query) {
  if (query.spec.dtype != DType::bf16) return "bf16 only: AMX has no products of this type";
  if (query.device.isa != Isa::amx) {
    const std::string& note = query.device.isa_note;
    return "needs AMX: " + (note.empty() ? std::string("FUSEDMLP_ISA leaves it out") : note);
  }
  return {};
}

std::string unsupported_dot(const core::Query& query) {
  if (query.spec.dtype != DType::bf16) return "bf16 only: products of pairs of bf16";
  if (query.device.isa != Isa::avx512 || query.device.tile_flops_per_core[static_cast<int>(DType::bf16)] == 0) {
    return "needs AVX512-BF16, and is for CPUs without AMX";
  }
  return {};
}

core::Prediction amx_prediction(const core::Query& query, double efficiency, int threads, double rows, double reads,
                                int joins) {
  const double per_row = flops(query.spec, 1);
  const double rate = query.device.tile_flops_per_core[static_cast<int>(query.spec.dtype)];
  // Panels made on the fly are made by vector code.
  const double unpacked =
      query.packed ? 0 : kUnpackedPenaltyRows * per_row / core::peak_flops(query.device, query.spec.dtype, 1);
  const double compute = std::max(rows, static_cast<double>(kTileHeight) / threads) * per_row / rate / efficiency +
                         reads / threads * unpacked;
  const double streamed = core::weight_bytes(query.spec);
  const double memory = reads * streamed / core::read_bandwidth(query.device, streamed, threads);
  const double overhead = threads > 1 ? joins * query.device.launch_seconds : 0.0;
  return core::combine(compute, memory, overhead, Basis::modelled);
}

}  // namespace fusedmlp::cpu
