// Plans of cuda.cluster, how long each takes, and the one that takes least.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/cost_model.h"
#include "core/format.h"
#include "cuda/cluster/plan.h"

namespace fusedmlp::cuda::cluster {
namespace {

// Microseconds, fitted by lab/cluster/fit.py to pairs of plans on an H200, tests/data/gpu/cluster_plans.txt, which
// tests/gpu/cluster_test.cpp holds them to. What each counts is in microseconds() below.
struct Costs {
  double again = 0, few = 0, handed = 0, output = 0, products = 0, shallow = 0;
  double shared = 0, stream = 0, sums = 0, thin = 0, uneven = 0, used = 0, wave = 0;
};
// Up to 16 tokens, 32, 64, and more.
constexpr Costs kUp[] = {{.again = 0.00113,
                          .output = 0.00186,
                          .products = 0.159,
                          .shallow = 0.0467,
                          .stream = 0.343,
                          .sums = 0.324,
                          .uneven = 0.0257,
                          .used = 0.79,
                          .wave = 1.76},
                         {.again = 0.000157,
                          .output = 0.00221,
                          .products = 0.144,
                          .shallow = 0.0625,
                          .stream = 0.454,
                          .sums = 0.365,
                          .used = 1.3,
                          .wave = 1.66},
                         {.again = 0.00125,
                          .handed = 0.000267,
                          .output = 0.0192,
                          .products = 0.0641,
                          .shallow = 0.0818,
                          .shared = 0.335,
                          .stream = 0.546,
                          .sums = 0.286,
                          .used = 1.31,
                          .wave = 2.15},
                         {.handed = 0.0507,
                          .output = 0.0116,
                          .products = 0.099,
                          .shallow = 0.0551,
                          .shared = 0.138,
                          .sums = 0.116,
                          .thin = 0.552,
                          .uneven = 0.112,
                          .used = 0.359,
                          .wave = 3.66}};
constexpr Costs kDown[] = {{.again = 0.000832,
                            .few = 1.82,
                            .output = 0.00619,
                            .products = 0.107,
                            .shallow = 0.106,
                            .stream = 0.483,
                            .sums = 0.388,
                            .uneven = 0.0531,
                            .used = 1.91,
                            .wave = 1.62},
                           {.again = 0.00109,
                            .few = 1.71,
                            .output = 0.00208,
                            .products = 0.13,
                            .shallow = 0.113,
                            .stream = 0.354,
                            .sums = 0.409,
                            .uneven = 0.0359,
                            .used = 1.78,
                            .wave = 1.93},
                           {.again = 0.00282,
                            .few = 0.779,
                            .output = 0.0111,
                            .products = 0.122,
                            .shallow = 0.119,
                            .shared = 0.303,
                            .sums = 0.348,
                            .uneven = 0.0723,
                            .used = 1.04,
                            .wave = 2.25},
                           {.again = 0.00248,
                            .few = 0.658,
                            .handed = 0.0301,
                            .output = 0.0193,
                            .products = 0.0729,
                            .shallow = 0.136,
                            .stream = 0.258,
                            .sums = 0.268,
                            .thin = 0.369,
                            .uneven = 0.13,
                            .used = 2.98,
                            .wave = 3.44}};
constexpr double kMegabyte = 0.0754;             // of all weights
constexpr double kCrowd = 0.5, kCrowded = 1.15;  // not fitted: lab/cluster/fit.py
// So much longer than fitted gated MLPs take in runs with other entries between
// (benchmarks/results/gpu_seams_h200.json): up to 16 tokens, 32, 64, and more.
constexpr double kGated[] = {0.1, 0, 0, 1.4};
constexpr double kMegabytesPerMicrosecond = 4.46;  // from memory
constexpr double kKilobytesPerMicrosecond = 95;    // into an SM

// Two launches of a small MLP, which wait for little but each other (cluster_small_plans.txt): up to 16 tokens, 32,
// 64, and more; a megabyte of weights more, and of a tile of more than 64 tokens a token more.
constexpr double kSmall[] = {3.6, 3.7, 4.2, 5.2}, kSmallMegabyte = 0.8, kSmallToken = 0.011;
bool is_small(const MlpSpec& spec) {
  return std::max({spec.d_in, spec.d_hidden, spec.d_out}) <= 1024 && core::weight_bytes(spec) < 2e6;
}

// So much of the first weights, which memory gives in little more than a microsecond, is drawn into L2 while the
// kernels ahead still run: more would hold up what those still read.
constexpr double kDrawnMegabytes = 6;

// The share of the SMs that clusters of a size can hold: they lie within groups of 14 to 18 SMs.
constexpr double held(int slices) { return slices <= 2 ? 1 : slices == 3 ? 0.94 : slices == 6 ? 0.82 : 0.91; }

int token_range(std::int64_t tokens) { return tokens <= 16 ? 0 : tokens <= 32 ? 1 : tokens <= 64 ? 2 : 3; }

double ctas_of(const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return static_cast<double>(tiles_of(shape, form)) * token_tiles_of(tokens, form) * plan.slices;
}

// Of the SMs, that a launch takes up.
double share_of_sms(const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan,
                    const DeviceInfo& device) {
  return std::min(1.0, ctas_of(shape, tokens, plan) / device.cores / kForms[plan.form].resident);
}

// Microseconds more where the second launch's CTAs find no room beside the first one's.
double crowded(double first, double second) {
  const double without = std::clamp((first + second - 1) / second, 0.0, 1.0);
  return (without > 0 ? kCrowd : 0) + kCrowded * without;
}

double microseconds(const Costs& costs, const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan,
                    const DeviceInfo& device) {
  const Form& form = kForms[plan.form];
  const double ctas = ctas_of(shape, tokens, plan), resident = form.resident;
  const double capacity = std::max(1.0, std::floor(device.cores * held(plan.slices) / plan.slices)) * plan.slices;
  const double per_sm = ctas / device.cores, waves = ctas / capacity / resident, full = std::ceil(waves);
  const double most = full == 1 ? std::min(std::ceil(per_sm), resident) : per_sm;
  const int blocks = (k_blocks_of(shape) + plan.slices - 1) / plan.slices;  // of k, a CTA's
  const double count = tile_tokens_of(tokens, form);
  const double kb = blocks * (form.rows + count) * kBlockK * 2e-3;         // that a CTA reads
  const double outputs = form.rows * count / (form.tokens * form.groups);  // of a thread
  const double megabytes = shape.weight_megabytes();
  // Weight rows on their way are few where an SM holds one CTA of a form for two.
  const double thin = resident == 2 && per_sm <= 1 ? 512.0 / (form.rows * form.stages()) : 0;
  return costs.stream * std::max(megabytes / kMegabytesPerMicrosecond, most * kb / kKilobytesPerMicrosecond) +
         costs.products * most * blocks * form.rows * form.tokens / 4096 + costs.output * outputs +
         (plan.slices > 1 ? costs.handed * outputs + costs.shared : 0) + costs.sums * std::log2(plan.slices) +
         costs.again * (full < 4 ? (full - 1) * kb : 0) + costs.wave * (full - 1) +
         costs.uneven * ((full > 1 ? full / waves : 1) - 1) * megabytes + costs.few * std::max(0.0, 1 - per_sm) +
         costs.used * share_of_sms(shape, tokens, plan, device) +  // what is left is the next launch's
         costs.shallow * thin * megabytes + costs.thin * thin;
}

struct Candidate {
  ProductPlan plan;
  double microseconds, share_of_sms;
};

std::vector<Candidate> candidates(const Costs& costs, const ProductShape& shape, std::int64_t tokens,
                                  const DeviceInfo& device) {
  std::vector<Candidate> all;
  for (int form = 0; form < kFormCount; ++form) {
    for (const int slices : kSlices) {
      const ProductPlan plan{form, slices};
      if (!fits(shape, tokens, plan)) continue;
      all.push_back(
          {plan, microseconds(costs, shape, tokens, plan, device), share_of_sms(shape, tokens, plan, device)});
    }
  }
  return all;
}

// The first product is not worth slices; the second has all it can.
Plan small_plan(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  constexpr int kSmallForms[] = {0, 0, 2, 4};
  const int range = token_range(tokens), form = kSmallForms[range];
  Plan plan;
  plan.up = {form, 1};
  plan.down = {form, k_blocks_of(down_shape(spec)) < kMostSlices ? 1 : kMostSlices};
  plan.drawn = drawn_early(up_shape(spec), tokens, plan.up, device);
  const double time = kSmall[range] + kSmallMegabyte * core::weight_bytes(spec) * 1e-6 +
                      kSmallToken * std::max(tile_tokens_of(tokens, kForms[form]) - 64, 0);
  plan.seconds = seconds_from_h200(time, spec, device);
  return plan;
}

}  // namespace

bool fits(const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  const std::int64_t more_than = form.tokens == 128 ? 64 : form.tokens == 64 ? 32 : 0;  // smaller forms take fewer
  // Clusters of more than 4 CTAs were no faster with two CTAs an SM.
  return tokens > more_than && (form.tokens == 128 || tokens <= form.tokens) && tokens <= kMostTokens &&
         plan.slices <= k_blocks_of(shape) && (form.slices || plan.slices == 1) &&
         (form.resident == 1 || plan.slices <= 4);
}

// By the CTAs that are there at once: later ones would draw what they read at once.
Drawn drawn_early(const ProductShape& shape, std::int64_t tokens, const ProductPlan& up, const DeviceInfo& device) {
  const Form& form = kForms[up.form];
  const double ctas = std::min<double>(ctas_of(shape, tokens, up), device.cores * form.resident);
  const double of_block = 1e-6 * ctas * form.rows * kBlockK * 2;
  return {static_cast<int>(ctas), static_cast<int>(std::round(kDrawnMegabytes / of_block))};
}

double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const ProductPlan& down,
                         const DeviceInfo& device) {
  const ProductShape first = up_shape(spec), second = down_shape(spec);
  const double time = kMegabyte * core::weight_bytes(spec) * 1e-6 + (spec.gated ? kGated[token_range(tokens)] : 0) +
                      microseconds(kUp[token_range(tokens)], first, tokens, up, device) +
                      microseconds(kDown[token_range(tokens)], second, tokens, down, device) +
                      crowded(share_of_sms(first, tokens, up, device), share_of_sms(second, tokens, down, device));
  return seconds_from_h200(time, spec, device);
}

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  if (is_small(spec)) return small_plan(spec, tokens, device);
  Plan plan;
  double least = 0;
  const std::vector<Candidate> downs = candidates(kDown[token_range(tokens)], down_shape(spec), tokens, device);
  for (const Candidate& up : candidates(kUp[token_range(tokens)], up_shape(spec), tokens, device)) {
    for (const Candidate& down : downs) {
      const double time = up.microseconds + down.microseconds + crowded(up.share_of_sms, down.share_of_sms);
      if (least == 0 || time < least) {
        plan.up = up.plan;
        plan.down = down.plan;
        least = time;
      }
    }
  }
  plan.drawn = drawn_early(up_shape(spec), tokens, plan.up, device);
  plan.seconds = predicted_seconds(spec, tokens, plan.up, plan.down, device);
  return plan;
}

std::string describe(const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return core::format("tiles of {} weight rows x {} tokens, k in {} slice{}, {} stages", form.rows, form.tokens,
                      plan.slices, plan.slices == 1 ? "" : "s of a cluster", form.stages());
}

}  // namespace fusedmlp::cuda::cluster
