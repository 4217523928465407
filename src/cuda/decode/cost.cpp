// Plans of cuda.decode, how long each takes, and the one that takes least.
#include <algorithm>

#include "core/sm_rates.h"
#include "cuda/decode/plan.h"

namespace fusedmlp::cuda::decode {
namespace {

constexpr int kAlign = 128;

int round_up(int value, int unit) { return divide_up(value, unit) * unit; }

int token_class_of(std::int64_t tokens) {
  return *std::lower_bound(std::begin(kRowClasses), std::end(kRowClasses) - 1, tokens);
}

struct Shape {
  int n, k;
  int weights;  // matrices: 2 with a gate
};

int sums_bytes(const Plan& plan, const Shape& shape, const PhasePlan& phase) {
  const int blocks = std::max(1, plan.token_class / 16);
  return phase.warps_k * phase.pass_rows / kTileRows * shape.weights * blocks * sum_floats(plan.token_class) * 4;
}

int chunk_bytes(const PhasePlan& phase, int tokens) {
  return phase.buffers * tokens * activation_pitch(phase.chunk_units);
}

// Divides a product; `room`: shared memory for activations and sums. False: there is not enough.
bool divide(const Shape& shape, int tokens, int room, Plan& plan, PhasePlan& phase) {
  phase.warps_n = plan.warps / phase.warps_k;
  const int row_tiles = divide_up(phase.rows, kTileRows);
  PhasePlan one = phase;
  one.pass_rows = kTileRows;
  const int most = std::min(phase.warps_n * kStepUnits / shape.weights, room / sums_bytes(plan, shape, one));
  if (most < 1) return false;
  phase.passes = divide_up(row_tiles, most);
  phase.pass_rows = divide_up(row_tiles, phase.passes) * kTileRows;
  phase.tiles = divide_up(phase.pass_rows / kTileRows * shape.weights, phase.warps_n);
  phase.chunk_units = divide_up(divide_up(shape.k, kUnit), phase.splits);
  phase.step_units = 1;
  while (2 * phase.step_units * phase.tiles <= kStepUnits && phase.step_units * phase.warps_k < phase.chunk_units) {
    phase.step_units *= 2;
  }
  phase.buffers = 1;
  if (chunk_bytes(phase, tokens) > room) {
    phase.buffers = 2;
    const int units = (room / 2 / tokens - activation_pitch(0)) / (kUnit * 2);
    while (phase.step_units > 1 && units < phase.warps_k * phase.step_units) phase.step_units /= 2;
    const int step = phase.warps_k * phase.step_units;
    phase.chunk_units = units / step * step;
    if (phase.chunk_units < 1) return false;
  }
  plan.activation_bytes = std::max(
      plan.activation_bytes, round_up(std::max(chunk_bytes(phase, tokens), sums_bytes(plan, shape, phase)), kAlign));
  return true;
}

// Shares and latencies fitted by hand to an H200 and an H100; see docs/lab-notes.md.
constexpr double kL2BytesPerClock = 24;  // of an SM when all of them read
constexpr double kSmBytesPerClock = 40;  // of an SM when few do
constexpr double kSharedBytesPerClock = 128 * 0.7;
constexpr double kStartSeconds = 1.4e-6;    // first bytes, and the last ones' way through a block
constexpr double kBarrierSeconds = 1.6e-6;  // of the grid, and the hidden's first bytes
constexpr double kSplitSeconds = 1.3e-6;    // the sums of splits
// What the above gives puts plans in order; these turn it into time.
constexpr double kShareOfSum = 0.86;
constexpr double kMoreSeconds = 3.3e-6;
constexpr double kTokenSeconds = 0.15e-6;

double seconds(const Shape& shape, int tokens, const Plan& plan, const PhasePlan& phase, const DeviceInfo& device) {
  const double clock =
      device.flops_per_core[static_cast<int>(DType::bf16)] / (2.0 * core::sm_rates(device.compute_capability).half);
  const double weight_bytes = 2.0 * shape.weights * shape.n * shape.k;
  const int units = divide_up(divide_up(shape.k, kUnit), phase.splits);
  const double block_bytes = 2.0 * shape.weights * phase.rows * units * kUnit;
  const double activations = 2.0 * tokens * units * kUnit * phase.passes;  // of a block
  const double stream = std::max(weight_bytes / device.memory_bandwidth, block_bytes / (kSmBytesPerClock * clock));
  const double l2 = (block_bytes + activations) / (kL2BytesPerClock * clock);
  // The busiest warp stands for all.
  const double steps = phase.passes * divide_up(units, phase.warps_k * phase.step_units);
  const double warps = plan.warps;
  const int row_groups = std::max(1, plan.token_class / 8);
  const double step_bytes =
      phase.step_units * (phase.tiles * 2.0 + row_groups * std::min(1.0, tokens / 8.0)) * kUnitBytes;
  const double sums = 2.0 * phase.passes * sums_bytes(plan, shape, phase);
  const double shared = (warps * steps * step_bytes + activations + sums) / (kSharedBytesPerClock * clock);
  const int pieces = phase.tiles * phase.step_units;
  const double mmas = pieces * 4.0 * std::max(1, plan.token_class / 16);  // of a step
  const double step = std::max(250 + 40 * pieces + 8 * mmas, warps / 4 * (40 + 30 * pieces + 8 * mmas));
  const double products = steps * step / clock;
  double time = std::max({stream, l2, shared, products}) + 0.3 * (shared + products) + sums / (64 * clock);
  if (phase.splits > 1) {
    time += kSplitSeconds + 8.0 * tokens * shape.n * phase.splits / (2 * device.memory_bandwidth);
  }
  return time;
}

// Of the splits' sums: the blocks' shares and, in them, the passes' are rounded up.
std::int64_t partial_columns(const MlpSpec& spec, const DeviceInfo& device) {
  return kMostSplits * (spec.d_out + spec.d_out / 4) + std::int64_t{device.cores} * 4 * kTileRows;
}

Shape up_shape(const MlpSpec& spec) {
  return {static_cast<int>(spec.d_hidden), static_cast<int>(spec.d_in), spec.gated ? 2 : 1};
}
Shape down_shape(const MlpSpec& spec) { return {static_cast<int>(spec.d_out), static_cast<int>(spec.d_hidden), 1}; }

}  // namespace

std::optional<Plan> make_plan(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device,
                              const Knobs& knobs) {
  if (tokens < 1 || tokens > kMostTokens) return std::nullopt;
  const int count = static_cast<int>(tokens);
  const Shape up = up_shape(spec);
  const Shape down = down_shape(spec);
  Plan plan;
  plan.token_class = token_class_of(tokens);
  if (knobs.warps > most_warps(plan.token_class) || knobs.warps % knobs.up_warps_k != 0 ||
      knobs.warps % knobs.down_warps_k != 0) {
    return std::nullopt;
  }
  plan.warps = knobs.warps;
  plan.depth = knobs.depth;
  plan.prefetch_bytes = knobs.prefetch_bytes;
  const int sms = knobs.blocks > 0 ? knobs.blocks : device.cores;
  const auto place = [&](const Shape& shape, PhasePlan& phase) {
    const int groups = std::max(1, sms / phase.splits);
    phase.rows = divide_up(shape.n, groups);
    phase.blocks = divide_up(shape.n, phase.rows) * phase.splits;
  };
  plan.up.warps_k = knobs.up_warps_k;
  plan.down.warps_k = knobs.down_warps_k;
  plan.down.splits = knobs.splits;
  if (knobs.splits > divide_up(down.k, kUnit) || knobs.splits > sms) return std::nullopt;
  place(up, plan.up);
  place(down, plan.down);
  plan.blocks = std::max(plan.up.blocks, plan.down.blocks);

  const int bias_bytes = 4 * (up.weights * plan.up.rows + plan.down.rows);
  const int ring_bytes = plan.warps * plan.depth * kStepBytes;
  const int room =
      (static_cast<int>(device.shared_memory_per_block) - kReservedBytes - ring_bytes - bias_bytes) / kAlign * kAlign;
  if (room <= 0) return std::nullopt;
  if (!divide(up, count, room, plan, plan.up) || !divide(down, count, room, plan, plan.down)) return std::nullopt;
  if (knobs.splits > 1 &&
      std::int64_t{plan.down.blocks} * plan.down.passes * plan.down.pass_rows > partial_columns(spec, device)) {
    return std::nullopt;
  }
  plan.shared_bytes = ring_bytes + plan.activation_bytes + bias_bytes;
  const double sum = device.launch_seconds + kStartSeconds + seconds(up, count, plan, plan.up, device) +
                     kBarrierSeconds + seconds(down, count, plan, plan.down, device);
  plan.seconds = kShareOfSum * sum + kMoreSeconds + kTokenSeconds * count;
  return plan;
}

std::optional<Plan> choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  std::optional<Plan> best;
  constexpr int kWarps[] = {4, 8, 12, 14, 16};
  constexpr int kShares[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16};
  for (const int warps : kWarps) {
    for (int depth = 2; depth <= kMostDepth; ++depth) {
      for (int splits = 1; splits <= kMostSplits; splits *= 2) {
        Knobs knobs;
        knobs.warps = warps;
        knobs.depth = depth;
        knobs.splits = splits;
        knobs.prefetch_bytes = 96 << 10;
        for (const int up_k : kShares) {
          for (const int down_k : kShares) {
            knobs.up_warps_k = up_k;
            knobs.down_warps_k = down_k;
            if (up_k > warps || down_k > warps) continue;
            const std::optional<Plan> plan = make_plan(spec, tokens, device, knobs);
            if (plan && (!best || plan->seconds < best->seconds)) best = plan;
          }
        }
      }
    }
  }
  return best;
}

std::int64_t hidden_stride(const MlpSpec& spec) { return (spec.d_hidden + 7) / 8 * 8; }

std::size_t hidden_bytes(const MlpSpec& spec, std::int64_t tokens) {
  return static_cast<std::size_t>((tokens * hidden_stride(spec) * 2 + 255) / 256 * 256);
}

std::size_t partial_bytes(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  return static_cast<std::size_t>(partial_columns(spec, device) * token_class_of(tokens)) * sizeof(float);
}

}  // namespace fusedmlp::cuda::decode
