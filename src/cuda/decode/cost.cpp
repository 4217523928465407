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
constexpr std::size_t kSmShared = 228u << 10;  // an H200's; every block takes a kilobyte more than it asks for
constexpr std::size_t kBlockShared = 1u << 10;

// Microseconds, fitted by lab/decode/fit.py to 2449 pairs of plans on an H200, tests/data/gpu/decode_plans.txt (mean
// error 4 % for one token, 7 % for more), which tests/gpu/decode_test.cpp holds them to. What each counts is in
// microseconds() below.
struct Costs {
  double alone = 0, block = 0, busy = 0, footprint = 0, group = 0, idle = 0, input = 0, load = 0;
  double once = 0, output = 0, products = 0, rest = 0, step = 0, uneven = 0, wave = 0;
};
// Costs of a kind of plan: one token; up to 16 tokens, inputs from L2 or staged; the same of up to 32.
int kind_of(const ProductPlan& plan, std::int64_t tokens) {
  return tokens == 1 ? 0 : (tokens <= 16 ? 1 : 3) + (kForms[plan.form].staged ? 1 : 0);
}
int token_range(std::int64_t tokens) { return tokens == 1 ? 0 : tokens <= 16 ? 1 : 2; }
constexpr Costs kUp[] = {{.alone = 0.58,
                          .block = 0.000536,
                          .load = 0.029,
                          .once = 0.0264,
                          .products = 0.0064,
                          .rest = 0.0854,
                          .step = 0.418,
                          .uneven = 0.0669,
                          .wave = 0.641},
                         {.alone = 3.86,
                          .group = 0.722,
                          .input = 0.00326,
                          .load = 0.00867,
                          .output = 0.143,
                          .products = 0.00568,
                          .rest = 0.356,
                          .step = 0.476},
                         {.alone = 1.07,
                          .busy = 0.00435,
                          .input = 0.000781,
                          .output = 0.109,
                          .products = 0.00585,
                          .uneven = 0.0461,
                          .wave = 1.65},
                         {.alone = 5.17,
                          .busy = 0.00546,
                          .group = 0.0567,
                          .input = 0.0199,
                          .output = 0.0798,
                          .step = 1.34,
                          .uneven = 0.111},
                         {.alone = 1.25,
                          .input = 0.00316,
                          .load = 0.0209,
                          .output = 0.177,
                          .products = 0.00706,
                          .step = 0.427,
                          .uneven = 0.027,
                          .wave = 0.881}};
constexpr Costs kDown[] = {
    {.alone = 0.385,
     .block = 0.00381,
     .idle = 0.345,
     .load = 0.0643,
     .output = 0.204,
     .rest = 0.298,
     .step = 0.351,
     .uneven = 0.0246,
     .wave = 1.56},
    {.alone = 5.03,
     .group = 0.187,
     .idle = 0.656,
     .input = 0.00278,
     .load = 0.0371,
     .output = 0.346,
     .products = 0.00261,
     .rest = 0.89,
     .step = 0.821,
     .uneven = 0.00156},
    {.footprint = 1.64, .input = 0.0019, .output = 0.725, .rest = 0.132, .step = 1.08, .wave = 6.11},
    {.group = 0.477, .input = 0.0129, .output = 0.0395, .rest = 0.194, .step = 1.03, .uneven = 0.0723, .wave = 4.58},
    {.load = 0.0585, .products = 0.000967, .step = 1.06, .uneven = 0.0397, .wave = 4.55}};
// Of both launches: one token, up to 16, up to 32. The second is 0.75 more than fitted: so much longer it took in
// runs with other entries between (benchmarks/results/gpu_seams_h200.json).
constexpr double kStart[] = {0.896, 1.89, 3.57};
constexpr double kMegabyte[] = {0.132, 0.113, 0.0382};  // of all weights
// Less than that, of few weights and 2 to 16 tokens (GELU+bias 128x512, benchmarks/results/gpu_seams_h200.json).
constexpr double kFewBytes = 1e6, kFewWeights = 2.05;
constexpr double kSmallBytes = 2e6;  // of a weight matrix: loads beyond the end of k matter less

// Of the first weights this share, but no more than what memory gives in about a microsecond, is drawn into L2 while
// the kernels ahead still run: more would hold up what those still read.
constexpr double kDrawnShare = 0.4;
constexpr double kMostDrawnMegabytes = 6;

// Blocks of a launch that an SM holds at once.
int resident_blocks(const ProductPlan& plan, std::int64_t tokens) {
  const int registers = registers_of(plan.form, divide_up(tokens, 16), plan.whole);
  const int by_shared = static_cast<int>(kSmShared / (plan.shared_bytes + kBlockShared));
  return std::clamp(
      std::min({kSmRegisters / (plan.threads() * registers), kSmThreads / plan.threads(), by_shared, kSmBlocks}), 1,
      kSmBlocks);
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
         costs.block * per_sm + costs.busy * most_per_sm * block_kb +   // KB of weights that the busiest SM holds
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
  return plan.threads() >= 64 && read <= (small ? 1.6 : 1.15) * shape.k;
}

// Among plans like those; where there is none, among all.
ProductPlan fastest(const Costs* costs, const ProductShape& shape, std::int64_t tokens, const DeviceInfo& device,
                    bool any = false) {
  ProductPlan best;
  double least = 0;
  for (int form = 0; form < kFormCount; ++form) {
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      for (const int groups : {1, 2, 3, 4, 6, 8}) {
        const std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups);
        if (!plan || !(any || like_fitted(shape, *plan))) continue;
        const double time = microseconds(costs[kind_of(*plan, tokens)], shape, tokens, *plan, device);
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

// Spread over the blocks that are there at once: later ones would draw what they read at once.
Drawn drawn_early(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const DeviceInfo& device) {
  constexpr double kLine = 128;
  const ProductShape shape = up_shape(spec);
  const double bytes = 1e6 * std::min(kDrawnShare * shape.weight_megabytes(), kMostDrawnMegabytes);
  const int blocks = std::min(up.blocks, device.cores * resident_blocks(up, tokens));
  const double of_row = bytes / blocks / up.rows() / (shape.gated ? 2 : 1);
  return {blocks, static_cast<int>(std::min(std::ceil(of_row / kLine) * kLine, 2.0 * shape.k))};
}

double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const Plan& plan, const DeviceInfo& device) {
  const int range = token_range(tokens);
  const double few = range == 1 && core::weight_bytes(spec) < kFewBytes ? kFewWeights : 0;
  const double time = kStart[range] - few + kMegabyte[range] * core::weight_bytes(spec) * 1e-6 +
                      microseconds(kUp[kind_of(plan.up, tokens)], up_shape(spec), tokens, plan.up, device) +
                      microseconds(kDown[kind_of(plan.down, tokens)], down_shape(spec), tokens, plan.down, device);
  return seconds_from_h200(time, spec, device);
}

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  Plan plan;
  plan.up = fastest(kUp, up_shape(spec), tokens, device);
  plan.down = fastest(kDown, down_shape(spec), tokens, device);
  plan.drawn = drawn_early(spec, tokens, plan.up, device);
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
