// Plans of cuda.cluster, how long each takes, and the one that takes least.
#include <algorithm>
#include <cmath>

#include "core/cost_model.h"
#include "core/format.h"
#include "cuda/cluster/plan.h"

namespace fusedmlp::cuda::cluster {
namespace {

// Microseconds, fitted by lab/cluster/fit.py to 2085 pairs of plans on an H200: tests/data/gpu/cluster_plans.txt,
// whose mean error is 7 % and which tests/gpu/cluster_test.cpp holds them to, and 180 at 256 tokens, by tiles that
// are gone. What each counts is in microseconds() below.
struct Costs {
  double again = 0, alone = 0, few = 0, output = 0, products = 0, read = 0, shallow = 0;
  double shared = 0, sums = 0, thin = 0, uneven = 0, used = 0, wave = 0;
};
constexpr Costs kUp = {.alone = 0.0274,
                       .output = 0.0277,
                       .products = 0.0403,
                       .read = 0.00395,
                       .shallow = 0.0665,
                       .shared = 0.375,
                       .sums = 0.12,
                       .thin = 0.259,
                       .uneven = 0.0275,
                       .used = 1.66,
                       .wave = 2.41};
constexpr Costs kDown = {.again = 0.00364,
                         .alone = 0.0116,
                         .few = 1.15,
                         .output = 0.0125,
                         .products = 0.0814,
                         .read = 0.000239,
                         .shallow = 0.1,
                         .shared = 0.496,
                         .sums = 0.00349,
                         .thin = 0.394,
                         .uneven = 0.06,
                         .used = 3.18,
                         .wave = 1.85};
constexpr double kMegabyte = 0.136;  // of all weights
// GELU 128x512 takes 1.2 to 1.5 times what the costs say (benchmarks/results/gpu_seams_h200.json).
constexpr double kSmall = 0.6, kSmallBytes = 2e6;

// The share of the SMs that clusters of a size can hold: they lie within groups of 14 to 18 SMs.
constexpr double held(int slices) { return slices <= 2 ? 1 : slices == 3 ? 0.94 : slices == 6 ? 0.82 : 0.91; }

double microseconds(const Costs& costs, const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan,
                    const DeviceInfo& device) {
  const Form& form = kForms[plan.form];
  const double ctas = tiles_of(shape, form) * plan.slices, resident = form.resident;
  const double capacity = std::max(1.0, std::floor(device.cores * held(plan.slices) / plan.slices)) * plan.slices;
  const double per_sm = ctas / device.cores, waves = ctas / capacity / resident, full = std::ceil(waves);
  const double most = full == 1 ? std::min(std::ceil(per_sm), resident) : per_sm;
  const int blocks = (k_blocks_of(shape) + plan.slices - 1) / plan.slices;  // of k, a CTA's
  const auto count = static_cast<double>(tokens);
  const double kb = blocks * (form.rows + count) * kBlockK * 2e-3;  // that a CTA reads
  const double outputs = form.rows * count / form.tokens;           // of a thread
  const double megabytes = shape.weight_megabytes();
  // Weight rows on their way are few where an SM holds one CTA of a form for two.
  const double thin = resident == 2 && per_sm <= 1 ? 512.0 / (form.rows * form.stages()) : 0;
  return costs.read * most * kb + costs.products * most * blocks * form.rows * form.tokens / 4096 +
         (finishes_alone(plan, tokens) ? costs.alone * outputs : costs.output * outputs + costs.shared) +
         costs.sums * std::log2(plan.slices) + costs.again * (full < 4 ? (full - 1) * kb : 0) +
         costs.wave * (full - 1) + costs.uneven * ((full > 1 ? full / waves : 1) - 1) * megabytes +
         costs.few * std::max(0.0, 1 - per_sm) +
         costs.used * std::min(1.0, per_sm / resident) +  // what is left is the next launch's
         costs.shallow * thin * megabytes + costs.thin * thin;
}

ProductPlan fastest(const Costs& costs, const ProductShape& shape, std::int64_t tokens, const DeviceInfo& device) {
  ProductPlan best;
  double least = 0;
  for (int form = 0; form < kFormCount; ++form) {
    for (const int slices : kSlices) {
      const ProductPlan plan{form, slices};
      if (!fits(shape, tokens, plan)) continue;
      const double time = microseconds(costs, shape, tokens, plan, device);
      if (least == 0 || time < least) {
        best = plan;
        least = time;
      }
    }
  }
  return best;
}

}  // namespace

bool fits(const ProductShape& shape, std::int64_t tokens, const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  const std::int64_t least = form.tokens == 64 ? 0 : form.tokens / 2;  // a smaller form takes fewer
  // Clusters of more than 4 CTAs were no faster with two CTAs an SM.
  return tokens > least && tokens <= form.tokens && plan.slices <= k_blocks_of(shape) &&
         (form.resident == 1 || plan.slices <= 4);
}

double predicted_seconds(const MlpSpec& spec, std::int64_t tokens, const ProductPlan& up, const ProductPlan& down,
                         const DeviceInfo& device) {
  const double bytes = core::weight_bytes(spec);
  const double time = kMegabyte * bytes * 1e-6 + microseconds(kUp, up_shape(spec), tokens, up, device) +
                      microseconds(kDown, down_shape(spec), tokens, down, device);
  // None of the fitted MLPs is small; there the time is mostly what a launch takes in any case.
  const double small = 1 + kSmall * std::max(0.0, 1 - bytes / kSmallBytes);
  return seconds_from_h200(time * small, spec, device);
}

Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  Plan plan;
  plan.up = fastest(kUp, up_shape(spec), tokens, device);
  plan.down = fastest(kDown, down_shape(spec), tokens, device);
  plan.seconds = predicted_seconds(spec, tokens, plan.up, plan.down, device);
  return plan;
}

std::string describe(const ProductPlan& plan) {
  const Form& form = kForms[plan.form];
  return core::format("tiles of {} weight rows x {} tokens, k in {} slice{}, {} stages", form.rows, form.tokens,
                      plan.slices, plan.slices == 1 ? "" : "s of a cluster", form.stages());
}

}  // namespace fusedmlp::cuda::cluster
