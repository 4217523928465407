// Times plans of cuda.decode: the one it chooses, then pairs of sensible products (sweep_pairs).
//   plans SECONDS [SPEC TOKENS]...      a line a pair, PLANS_CHECK=1 in the environment checks results too:
//   SPEC TOKENS up FORM SPLITS GROUPS down FORM SPLITS GROUPS MICROSECONDS
// A CUDA graph of 40 MLPs, their weights cold in L2; medians.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../mlp_bench.h"
#include "cuda/decode/plan.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::cuda::decode;

// Those that waste little of k and fill the GPU.
std::vector<ProductPlan> candidates(const cuda::ProductShape& shape, std::int64_t tokens, int least_blocks) {
  std::vector<ProductPlan> all;
  for (int form = 0; form < kFormCount; ++form) {
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      for (const int groups : {1, 2, 3, 4, 6, 8}) {
        const std::optional<ProductPlan> plan = make_product(shape, tokens, form, splits, groups);
        if (!plan || plan->threads() < 64 || plan->blocks < least_blocks) continue;
        const double read = static_cast<double>(plan->steps) * splits * kForms[form].chunks * kForms[form].piece();
        if (read < (shape.k < 1000 ? 1.4 : 1.15) * shape.k) all.push_back(*plan);
      }
    }
  }
  return all;
}

ProductPlan middling(const std::vector<ProductPlan>& all) {
  const auto distance = [](const ProductPlan& plan) {
    return std::abs(std::log(plan.blocks / 192.0)) + std::abs(std::log(plan.threads() / 256.0)) -
           0.05 * kForms[plan.form].jobs * kForms[plan.form].chunks;
  };
  return *std::min_element(all.begin(), all.end(),
                           [&](const ProductPlan& a, const ProductPlan& b) { return distance(a) < distance(b); });
}

void sweep(const std::string& text, const std::vector<std::int64_t>& token_counts,
           const std::function<bool()>& over) {
  const MlpSpec spec = parse_spec(text).value();
  const lab::MlpBench bench(spec, kMostTokens);
  const DeviceInfo device = lab::take(fusedmlp::describe(Device::cuda()));
  const bool check = std::getenv("PLANS_CHECK") != nullptr;
  for (const std::int64_t tokens : token_counts) {
    const std::vector<ProductPlan> ups = candidates(cuda::up_shape(spec), tokens, 90);
    const std::vector<ProductPlan> downs = candidates(cuda::down_shape(spec), tokens, 40);
    if (ups.empty() || downs.empty()) continue;
    const auto look = [&](const ProductPlan& up, const ProductPlan& down) {
      if (over()) return 1e9;
      const auto queue = [&](const cuda::TwoGemms& products, cudaStream_t stream) {
        Call call;
        call.products = products;
        call.activation = cuda::activation_args(spec);
        call.plan = {up, down, drawn_early(spec, tokens, up, device), 0};
        call.overlaps_predecessor = true;
        return mlp_bf16(call, stream);
      };
      const double us = bench.microseconds(queue, tokens);
      const bool wrong = check && !(bench.difference(queue, tokens) < 0.02);
      std::printf("%s %lld up %d %d %d down %d %d %d %.3f%s\n", text.c_str(), static_cast<long long>(tokens), up.form,
                  up.splits, up.groups, down.form, down.splits, down.groups, us, wrong ? " WRONG" : "");
      return us;
    };
    const cuda::decode::Plan chosen = choose(spec, tokens, device);
    look(chosen.up, chosen.down);
    lab::sweep_pairs(ups, downs, middling(downs), look);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::function<bool()> over = lab::deadline(argc, argv);
  if (argc > 3) {
    for (int i = 2; i + 1 < argc; i += 2) sweep(argv[i], {std::atoll(argv[i + 1])}, over);
    return 0;
  }
  for (const char* text :
       {"geglu_tanh:768x3072,bf16", "swiglu:2048x768,bf16", "gelu:4096x4096+bias,bf16", "gelu:768x3072+bias,bf16",
        "gelu:1024x4096+bias,bf16", "swiglu:4096x14336,bf16", "geglu_tanh:2048x16384,bf16"}) {
    sweep(text, {1, 16, 4, 32}, over);
  }
}
