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

// Microseconds, fitted to 1100 pairs of plans on an H200 (docs/lab-notes.md): mean error 3 % for one token and 5 % for
// more; the plan chosen took 1.00 to 1.12 times as long as the fastest. What a term counts is in microseconds() below.
struct Costs {
  double input, busy, products, step, output, uneven, wave, alone, idle, group, load, footprint;
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
constexpr Costs kDown[] = {{.step = 0.470, .output = 2.21, .alone = 1.39, .idle = 1.75},
                           {.products = 0.00248, .step = 1.142, .output = 0.166, .uneven = 0.130, .load = 0.0189}};
constexpr double kStart[] = {1.50, 1.44};        // of both launches
constexpr double kMegabyte[] = {0.158, 0.0973};  // of all weights
constexpr double kFittedBandwidth = 4.46e12;

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
         costs.busy * most_per_sm * block_kb +                           // KB of weights that the busiest SM holds
         costs.products * per_sm * plan.splits * plan.groups * plan.steps * form.chunks * form.jobs * matrices * tiles +
         costs.step * plan.steps + costs.output * plan.rows() * count / plan.threads() +
         costs.uneven * slack * 2e-6 * matrices * shape.n * shape.k +
         costs.wave * std::min(full_waves - 1, 3.0) +                                // 3: from then on they overlap
         costs.alone * (resident == 1 ? (full_waves - 1) / full_waves : 0.0) +  // nobody reads while a block ends
         costs.idle * std::max(0.0, 1 - per_sm) + costs.group * (plan.groups - 1) +
         costs.load * form.chunks * form.jobs * matrices +
         costs.footprint * most_per_sm * plan.threads() * registers_of(plan.form, divide_up(tokens, 16), plan.whole) /
             kSmRegisters;
}

ProductPlan fastest(const Costs* costs, const Shape& shape, std::int64_t tokens, const DeviceInfo& device) {
  ProductPlan best;
  for (int form = 0; form < kFormCount; ++form) {
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      for (int groups = 1; splits * groups * 32 <= kMostThreads; ++groups) {
        std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups);
        if (!plan) continue;
        plan->seconds = 1e-6 * microseconds(costs[kForms[form].tensor], shape, tokens, *plan, device);
        if (best.blocks == 0 || plan->seconds < best.seconds) best = *plan;
      }
    }
  }
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
  if (splits > pieces || plan.threads() > kMostThreads || plan.rows() > kMostBlockRows ||
      plan.threads() * registers_of(form, tiles, plan.whole) > kSmRegisters) {
    return std::nullopt;
  }
  plan.blocks = divide_up(shape.n, plan.rows());
  const int matrices = shape.gated ? 2 : 1, pitch = kernel.tensor ? tiles * 16 + 1 : 1;
  plan.shared_bytes = sizeof(float) * static_cast<std::size_t>(matrices * plan.rows() * (1 + splits * pitch));
  if (plan.shared_bytes > kMostShared) return std::nullopt;
  return plan;
}

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  Plan plan;
  plan.up = fastest(kUp, up_shape(spec), tokens, device);
  plan.down = fastest(kDown, down_shape(spec), tokens, device);
  plan.prefetches = waves_of(plan.up, tokens, device) <= 1;
  const bool tensor = tokens > 1;
  const double bytes = core::weight_bytes(spec);
  plan.seconds = 1e-6 * (kStart[tensor] + kMegabyte[tensor] * bytes * 1e-6) + plan.up.seconds + plan.down.seconds +
                 bytes / device.memory_bandwidth - bytes / kFittedBandwidth;
  return plan;
}

std::string describe(const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return core::format("{}, {} rows a block, {} rows x {} k of a warp in registers, k shared by {} warps in {} step{}",
                      form.tensor ? "tensor cores" : "fp32 lanes", plan.rows(), form.jobs * form.rows(),
                      form.chunks * form.piece(), plan.splits, plan.steps, plan.steps == 1 ? "" : "s");
}

}  // namespace fusedmlp::cuda::decode
