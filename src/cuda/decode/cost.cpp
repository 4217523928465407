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

constexpr int kSmThreads = 2048;
constexpr int kSmBlocks = 32;

// Microseconds, fitted by lab/decode/fit.py to 1725 pairs of plans on an H200, tests/data/gpu/decode_plans.txt (mean
// error 3 % for one token, 5 % for more), which tests/gpu/decode_test.cpp holds them to. What each counts is in
// microseconds() below.
struct Costs {
  double alone = 0, busy = 0, footprint = 0, group = 0, idle = 0, input = 0, load = 0;
  double once = 0, output = 0, products = 0, rest = 0, step = 0, uneven = 0, wave = 0;
};
enum Kind { kLanes, kTensor, kStaged };
constexpr Kind kind_of(const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return form.staged ? kStaged : form.tensor ? kTensor : kLanes;
}
constexpr Costs kUp[] = {{.alone = 0.662,
                          .busy = 0.000714,
                          .footprint = 2.2,
                          .group = 0.0239,
                          .input = 0.0346,
                          .load = 0.109,
                          .once = 0.0818,
                          .output = 0.363,
                          .products = 0.00447,
                          .rest = 0.162,
                          .step = 0.447,
                          .wave = 0.0311},
                         {.alone = 0.566,
                          .footprint = 1.61,
                          .group = 0.274,
                          .input = 0.00592,
                          .load = 0.0178,
                          .output = 0.285,
                          .products = 0.00437,
                          .rest = 0.0445,
                          .step = 0.468,
                          .uneven = 0.0625,
                          .wave = 1.12},
                         {.alone = 1.1,
                          .footprint = 1.04,
                          .load = 0.0183,
                          .output = 0.364,
                          .products = 0.00309,
                          .rest = 0.0374,
                          .step = 0.363,
                          .uneven = 0.055,
                          .wave = 0.757}};
constexpr Costs kDown[] = {
    {.alone = 0.588,
     .idle = 0.744,
     .input = 0.00897,
     .load = 0.0142,
     .once = 0.0296,
     .rest = 0.765,
     .step = 0.241,
     .wave = 0.386},
    {.alone = 3.13,
     .footprint = 1.72,
     .input = 0.0102,
     .load = 0.0108,
     .output = 0.24,
     .products = 0.00101,
     .rest = 0.695,
     .step = 0.812},
    {.busy = 0.00343, .footprint = 1.65, .idle = 0.461, .output = 0.233, .products = 0.000508, .step = 0.616}};
constexpr double kStart[] = {0, 0.477};         // of both launches: one token, more
constexpr double kMegabyte[] = {0.112, 0.153};  // of all weights
constexpr double kNotDrawn[] = {0.393, 0.438};  // small first weights, see below, that are not drawn into L2
constexpr double kSmallBytes = 2e6;             // of a weight matrix: loads beyond the end of k matter less

// First weights up to this are drawn into L2 while the kernels ahead still run, -1 to -14 % for 4 to 9 MB; 33 MB take
// 1 to 18 % longer, 67 MB and more 2 to 20 %. Where blocks come in more waves than two, they are drawn too late.
constexpr double kMostPrefetchedMegabytes = 12;
constexpr double kMostPrefetchedWaves = 2;

// Blocks of a launch that an SM holds at once.
int resident_blocks(const ProductPlan& plan, std::int64_t tokens) {
  const int registers = registers_of(plan.form, divide_up(tokens, 16), plan.whole);
  return std::clamp(std::min(kSmRegisters / (plan.threads() * registers), kSmThreads / plan.threads()), 1, kSmBlocks);
}

// Whether the first weights are worth drawing into L2 early.
bool draws(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const DeviceInfo& device) {
  const double waves = static_cast<double>(up.blocks) / device.cores / resident_blocks(up, tokens);
  return up_shape(spec).weight_megabytes() <= kMostPrefetchedMegabytes && waves <= kMostPrefetchedWaves;
}

double microseconds(const Costs& costs, const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan,
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
         // Without steps a block's warps read and end together; the other blocks of the SM bridge that.
         costs.once * (plan.whole && waves > 1 ? shape.weight_megabytes() / resident : 0.0) +
         costs.output * plan.rows() * count / plan.threads() + costs.uneven * slack * shape.weight_megabytes() +
         costs.wave * std::min(full_waves - 1, 3.0) +            // 3: from then on they overlap
         costs.alone * (resident == 1 ? full_waves - 1 : 0.0) +  // nobody reads while a block ends
         costs.idle * std::max(0.0, 1 - per_sm) + costs.group * (plan.groups - 1) +
         costs.load * form.chunks * form.jobs * matrices +
         costs.footprint * most_per_sm * plan.threads() * registers_of(plan.form, divide_up(tokens, 16), plan.whole) /
             kSmRegisters;
}

// Whether the costs were fitted to plans like this one: blocks of a few warps, few loads beyond the end of k.
bool like_fitted(const ProductShape& shape, const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  const double read = static_cast<double>(plan.steps) * plan.splits * form.chunks * form.piece();
  const bool small = 2.0 * shape.n * shape.k < kSmallBytes;
  return plan.threads() >= 64 && plan.threads() <= 384 && read <= (small ? 1.6 : 1.15) * shape.k;
}

// Among plans like those; where there is none, among all.
ProductPlan fastest(const Costs* costs, const ProductShape& shape, std::int64_t tokens, const DeviceInfo& device,
                    bool any = false) {
  ProductPlan best;
  double least = 0;
  for (int form = 0; form < kFormCount; ++form) {
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      for (int groups = 1; splits * groups * 32 <= kMostThreads; ++groups) {
        const std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups);
        if (!plan || !(any || like_fitted(shape, *plan))) continue;
        const double time = microseconds(costs[kind_of(*plan)], shape, tokens, *plan, device);
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

std::optional<ProductPlan> make_product(const ProductShape& shape, std::int64_t tokens, int form, int splits,
                                        int groups) {
  const Form& kernel = kForms[form];
  if (kernel.tensor != (tokens > 1) || kernel.gated != shape.gated) return std::nullopt;
  if (kernel.staged && groups > 1) return std::nullopt;
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
  const int biases = round_up(matrices * plan.rows(), kLineFloats);
  const int of_split = kernel.staged ? staged_floats(form, tiles) : matrices * plan.rows() * pitch;
  plan.shared_bytes = sizeof(float) * static_cast<std::size_t>(biases + splits * of_split);
  if (plan.shared_bytes > (kernel.staged ? kMostStagedShared : kMostShared)) return std::nullopt;
  return plan;
}

double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const Plan& plan, const DeviceInfo& device) {
  const bool tensor = tokens > 1;
  const double time = kStart[tensor] + kMegabyte[tensor] * core::weight_bytes(spec) * 1e-6 +
                      microseconds(kUp[kind_of(plan.up)], up_shape(spec), tokens, plan.up, device) +
                      microseconds(kDown[kind_of(plan.down)], down_shape(spec), tokens, plan.down, device) +
                      (draws(spec, tokens, plan.up, device) && !plan.prefetches ? kNotDrawn[tensor] : 0.0);
  return seconds_from_h200(time, spec, device);
}

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  Plan plan;
  plan.up = fastest(kUp, up_shape(spec), tokens, device);
  plan.down = fastest(kDown, down_shape(spec), tokens, device);
  plan.prefetches = draws(spec, tokens, plan.up, device);
  plan.seconds = predicted_seconds(spec, tokens, plan, device);
  return plan;
}

std::string describe(const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return core::format("{}, {} rows a block, {} rows x {} k of a warp in registers, k shared by {} warps in {} step{}",
                      form.tensor ? "tensor cores" : "fp32 lanes", plan.rows(), form.jobs * form.rows(),
                      form.chunks * form.piece(), plan.splits, plan.steps, plan.steps == 1 ? "" : "s");
}

}  // namespace fusedmlp::cuda::decode
