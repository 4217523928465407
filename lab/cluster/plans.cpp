// Times plans of cuda.cluster: pairs of products (sweep_pairs).
//   plans SECONDS [SPEC TOKENS]...      a line a pair:
//   SPEC TOKENS up FORM SLICES down FORM SLICES MICROSECONDS [WRONG]
// A CUDA graph of 40 MLPs, their weights cold in L2; medians. WRONG: far from cuda.portable's result.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../mlp_bench.h"
#include "cuda/cluster/plan.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::cuda::cluster;

std::vector<ProductPlan> candidates(const cuda::ProductShape& shape, std::int64_t tokens) {
  std::vector<ProductPlan> all;
  for (int form = 0; form < kFormCount; ++form) {
    for (const int slices : kSlices) {
      if (fits(shape, tokens, {form, slices})) all.push_back({form, slices});
    }
  }
  return all;
}

void sweep(const std::string& text, std::int64_t tokens, const std::function<bool()>& over) {
  const MlpSpec spec = parse_spec(text).value();
  const lab::MlpBench bench(spec, tokens);
  const std::vector<ProductPlan> ups = candidates(cuda::up_shape(spec), tokens),
                                 downs = candidates(cuda::down_shape(spec), tokens);
  ProductPlan middle = downs.front();
  for (const ProductPlan& down : downs) {
    if (down.form == middle.form && down.slices <= 4) middle = down;
  }
  lab::sweep_pairs(ups, downs, middle, [&](const ProductPlan& up, const ProductPlan& down) {
    if (over()) return 1e9;
    const auto queue = [&](const cuda::TwoGemms& products, cudaStream_t stream) {
      return mlp_bf16({products, cuda::sm90::fast_activation(spec), spec.gated, {up, down, 0}}, stream);
    };
    const double us = bench.microseconds(queue, tokens);
    const bool wrong = !(bench.difference(queue, tokens) < 0.02);
    std::printf("%s %lld up %d %d down %d %d %.3f%s\n", text.c_str(), static_cast<long long>(tokens), up.form,
                up.slices, down.form, down.slices, us, wrong ? " WRONG" : "");
    return us;
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::function<bool()> over = lab::deadline(argc, argv);
  for (int i = 2; i + 1 < argc; i += 2) sweep(argv[i], std::atoll(argv[i + 1]), over);
}
