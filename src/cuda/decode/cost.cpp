// Plans of cuda.decode, how long each takes, and the one that takes least.
#include <algorithm>
#include <cmath>

#include "core/cost_model.h"
#include "core/format.h"
#include "core/sm_rates.h"
#include "cuda/decode/plan.h"

namespace fusedmlp::cuda::decode {
namespace {

int divide_up(std::int64_t value, std::int64_t unit) { return static_cast<int>((value + unit - 1) / unit); }

constexpr std::size_t kMostShared = 48u << 10;  // what a launch may have without asking
constexpr int kSmThreads = 2048;
constexpr int kSmBlocks = 32;

// Microseconds, fitted to a thousand pairs of plans on an H200, tests/data/gpu/decode_plans.txt (mean error 3 % for
// one token, 5 % for more), which tests/gpu/decode_test.cpp holds them to. What each counts is in microseconds()
// below.
struct Costs {
  double input = 0, busy = 0, products = 0, step = 0, rest = 0, output = 0, uneven = 0;
  double wave = 0, alone = 0, idle = 0, group = 0, load = 0, footprint = 0;
};
constexpr Costs kUp[] = {{.input = 0.0258,
                          .products = 0.00253,
                          .step = 0.436,
                          .output = 6.68,
                          .wave = 0.0233,
                          .alone = 7.22,
                          .footprint = 1.42},
                         {.input = 0.0156,
                          .busy = 0.01035,
                          .products = 0.00587,
                          .step = 0.351,
                          .output = 0.298,
                          .wave = 0.892,
                          .group = 0.175}};
constexpr Costs kDown[] = {
    {.input = 0.006, .step = 0.470, .rest = 1.5, .output = 2.21, .alone = 1.39, .idle = 1.75},
    {.input = 0.006, .products = 0.00248, .step = 1.142, .output = 0.166, .uneven = 0.130, .load = 0.0189}};
constexpr double kStart[] = {1.50, 1.44};        // of both launches
constexpr double kMegabyte[] = {0.158, 0.0973};  // of all weights
constexpr double kFittedBandwidth = 4.46e12;
constexpr double kSmallBytes = 2e6;  // of a weight matrix: loads beyond the end of k matter less

// Blocks of a launch that an SM holds at once.
int resident_blocks(const ProductPlan& plan, std::int64_t tokens) {
  const int registers = registers_of(plan.form, divide_up(tokens, 16), plan.whole);
  return std::clamp(std::min(kSmRegisters / (plan.threads() * registers), kSmThreads / plan.threads()), 1, kSmBlocks);
}

double waves_of(const ProductPlan& plan, std::int64_t tokens, const DeviceInfo& device) {
  return static_cast<double>(plan.blocks) / device.cores / resident_blocks(plan, tokens);
}

double microseconds(const Costs& costs, const Shape& shape, std::int64_t tokens, const ProductPlan& plan,
                    const DeviceInfo& device) {
  const Form& form = kForms[plan.form];
  const int matrices = shape.gated ? 2 : 1, resident = resident_blocks(plan, tokens);
  const double per_sm = static_cast<double>(plan.blocks) / device.cores, waves = per_sm / resident;
  const double most_per_sm = std::min(std::ceil(per_sm), static_cast<double>(resident));
  const double full_waves = std::ceil(waves);
  const double block_kb = 2e-3 * matrices * plan.rows() * shape.k;
  const double tiles = form.tensor ? divide_up(tokens, 16) : 1;
  const double count = static_cast<double>(tokens);
  const double slack = (waves > 1 ? full_waves / waves : std::ceil(per_sm) / per_sm) - 1;
  return costs.input * per_sm * 2e-3 * count * shape.k * plan.groups +  // KB of inputs that an SM reads
         costs.busy * most_per_sm * block_kb +                          // KB of weights that the busiest SM holds
         costs.products * per_sm * plan.splits * plan.groups * plan.steps * form.chunks * form.jobs * matrices *
             tiles +
         costs.step * plan.steps + costs.rest * (plan.whole ? 0 : 1) +
         costs.output * plan.rows() * count / plan.threads() +
         costs.uneven * slack * 2e-6 * matrices * shape.n * shape.k +
         costs.wave * std::min(full_waves - 1, 3.0) +                           // 3: from then on they overlap
         costs.alone * (resident == 1 ? (full_waves - 1) / full_waves : 0.0) +  // nobody reads while a block ends
         costs.idle * std::max(0.0, 1 - per_sm) + costs.group * (plan.groups - 1) +
         costs.load * form.chunks * form.jobs * matrices +
         costs.footprint * most_per_sm * plan.threads() * registers_of(plan.form, divide_up(tokens, 16), plan.whole) /
             kSmRegisters;
}

// Whether the costs were fitted to plans like this one: blocks of a few warps, few loads beyond the end of k.
bool like_fitted(const Shape& shape, const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  const double read = static_cast<double>(plan.steps) * plan.splits * form.chunks * form.piece();
  const bool small = 2.0 * shape.n * shape.k < kSmallBytes;
  return plan.threads() >= 64 && plan.threads() <= 384 && read <= (small ? 1.6 : 1.15) * shape.k;
}

// Among plans like those; where there is none, among all.
ProductPlan fastest(const Costs* costs, const Shape& shape, std::int64_t tokens, const DeviceInfo& device,
                    bool any = false) {
  ProductPlan best;
  double least = 0;
  for (int form = 0; form < kFormCount; ++form) {
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      for (int groups = 1; splits * groups * 32 <= kMostThreads; ++groups) {
        const std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups);
        if (!plan || !(any || like_fitted(shape, *plan))) continue;
        const double time = microseconds(costs[kForms[form].tensor], shape, tokens, *plan, device);
        if (best.blocks == 0 || time < least) {
          best = *plan;
          least = time;
        }
      }
    }
  }
  if (best.blocks == 0 && !any) return fastest(costs, shape, tokens, device, true);
  return best;
}

}  // namespace

std::optional<ProductPlan> make_product(const Shape& shape, std::int64_t tokens, int form, int splits, int groups) {
  const Form& kernel = kForms[form];
  if (kernel.tensor != (tokens > 1) || kernel.gated != shape.gated) return std::nullopt;
  ProductPlan plan;
  plan.form = form;
  plan.splits = splits;
  plan.groups = groups;
  const int pieces = divide_up(shape.k, kernel.piece()), tiles = divide_up(tokens, 16);
  plan.whole = splits * kernel.chunks * kernel.piece() == shape.k;
  plan.steps = divide_up(pieces, splits * kernel.chunks);
  // An SM is four parts of a quarter of the registers each, and warps go to them in turn.
  if (splits > pieces || plan.threads() > kMostThreads || plan.rows() > kMostBlockRows ||
      divide_up(plan.threads(), 128) * 128 * registers_of(form, tiles, plan.whole) > kSmRegisters) {
    return std::nullopt;
  }
  plan.blocks = divide_up(shape.n, plan.rows());
  const int matrices = shape.gated ? 2 : 1, pitch = kernel.tensor ? tiles * 16 + 1 : 1;
  plan.shared_bytes = sizeof(float) * static_cast<std::size_t>(matrices * plan.rows() * (1 + splits * pitch));
  if (plan.shared_bytes > kMostShared) return std::nullopt;
  return plan;
}

double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const ProductPlan& down,
                         const DeviceInfo& device) {
  const bool tensor = tokens > 1;
  const double bytes = core::weight_bytes(spec);
  const double time = kStart[tensor] + kMegabyte[tensor] * bytes * 1e-6 +
                      microseconds(kUp[tensor], up_shape(spec), tokens, up, device) +
                      microseconds(kDown[tensor], down_shape(spec), tokens, down, device);
  return time * 1e-6 + bytes / device.memory_bandwidth - bytes / kFittedBandwidth;
}

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  Plan plan;
  plan.up = fastest(kUp, up_shape(spec), tokens, device);
  plan.down = fastest(kDown, down_shape(spec), tokens, device);
  plan.prefetches = waves_of(plan.up, tokens, device) <= 1;
  plan.seconds = predicted_seconds(spec, tokens, plan.up, plan.down, device);
  return plan;
}

std::string describe(const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return core::format("{}, {} rows a block, {} rows x {} k of a warp in registers, k shared by {} warps in {} step{}",
                      form.tensor ? "tensor cores" : "fp32 lanes", plan.rows(), form.jobs * form.rows(),
                      form.chunks * form.piece(), plan.splits, plan.steps, plan.steps == 1 ? "" : "s");
}

}  // namespace fusedmlp::cuda::decode
