// How the rows are divided, and how long that takes.
#include <algorithm>

#include "core/cost_model.h"
#include "core/format.h"
#include "cuda/matvec/matvec.h"

namespace fusedmlp::cuda::matvec {
namespace {

// Beyond the weights' bytes at the device's bandwidth, fitted to times on an H200 (docs/lab-notes.md): launch, the
// barrier, two reductions and the ends of both streams.
constexpr double kResidentSeconds = 5.6e-6;
constexpr double kStreamingSeconds = 6.5e-6;
constexpr double kStreamingShare[] = {1.04, 1.12};  // of one and of two tokens: times as long as the bytes take

int divide_up(std::int64_t value, std::int64_t unit) { return static_cast<int>((value + unit - 1) / unit); }

// The least splits with which no warp has more than so many jobs and chunks; 0: none.
int splits_for(int warps, int rows, int chunks, int most_jobs, int most_chunks) {
  for (int splits = 1; splits <= warps; ++splits) {
    if (warps % splits != 0) continue;
    if (divide_up(chunks, splits) <= most_chunks && divide_up(rows, warps / splits) <= most_jobs) return splits;
  }
  return 0;
}

// Those with which the busiest warp of the streaming kernel reads least.
int splits_of_stream(int warps, int rows, int chunks, int chunks_of_step) {
  int best = 1;
  double least = 0;
  for (int splits = 1; splits <= std::min(warps, chunks); ++splits) {
    if (warps % splits != 0) continue;
    const int jobs = divide_up(rows, warps / splits), own = divide_up(chunks, splits);
    const double cost = jobs * own + 0.25 * splits + 0.1 * jobs * divide_up(own, chunks_of_step);
    if (splits == 1 || cost < least) {
      best = splits;
      least = cost;
    }
  }
  return best;
}

Phase phase(int rows, int splits, int warps, int chunks, int chunks_of_step) {
  return {rows, splits, warps / splits, divide_up(divide_up(chunks, splits), chunks_of_step)};
}

}  // namespace

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  const auto slots = static_cast<int>(std::min<std::int64_t>(device.cores, spec.d_hidden));
  const int up_rows = divide_up(spec.d_hidden, slots);
  Plan plan;
  plan.blocks = divide_up(spec.d_hidden, up_rows);
  const int down_rows = divide_up(spec.d_out, plan.blocks);
  const int up_chunks = divide_up(spec.d_in, kChunk), down_chunks = divide_up(spec.d_hidden, kChunk);
  const int up_step = spec.gated ? kStepLoads / 2 : kStepLoads;
  const auto complete = [&](int threads, int up_splits, int down_splits) {
    const int warps = threads / 32;
    plan.threads = threads;
    plan.up = phase(up_rows, up_splits, warps, up_chunks, up_step);
    plan.down = phase(down_rows, down_splits, warps, down_chunks, kStepLoads);
    plan.shared_bytes =
        sizeof(float) * static_cast<std::size_t>(tokens) *
        static_cast<std::size_t>(std::max(up_splits * up_rows * (spec.gated ? 2 : 1), down_splits * down_rows));
  };
  const double memory = core::memory_seconds(spec, tokens, device, 1);
  for (int form = 0; form < kStreaming; ++form) {
    const Resident& r = kResident[form];
    const int warps = r.threads / 32;
    const int up = splits_for(warps, up_rows, up_chunks, r.up_jobs, r.up_chunks);
    const int down = splits_for(warps, down_rows, down_chunks, r.down_jobs, r.down_chunks);
    if (tokens > 1 || !(spec.gated ? r.gated : r.plain) || up == 0 || down == 0) continue;
    complete(r.threads, up, down);
    plan.form = form;
    plan.seconds = memory + kResidentSeconds;
    return plan;
  }
  const int warps = kStreamingThreads / 32;
  complete(kStreamingThreads, splits_of_stream(warps, up_rows, up_chunks, up_step),
           splits_of_stream(warps, down_rows, down_chunks, kStepLoads));
  plan.shared_bytes +=
      static_cast<std::size_t>(tokens) * static_cast<std::size_t>(std::max(up_chunks, down_chunks)) * kChunk * 2;
  if (plan.shared_bytes > device.shared_memory_per_block) return {};
  plan.seconds = memory * kStreamingShare[tokens > 1] + kStreamingSeconds;
  return plan;
}

std::string describe(const Plan& plan) {
  return core::format("{}, {} and {} rows a block, k shared by {} and {} warps",
                      plan.form == kStreaming ? "weights streamed" : "weights in registers", plan.up.rows,
                      plan.down.rows, plan.up.splits, plan.down.splits);
}

}  // namespace fusedmlp::cuda::matvec
