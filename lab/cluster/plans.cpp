// Times plans of cuda.cluster: pairs of products.
//   plans SECONDS [SPEC TOKENS]...      a line a pair:
//   SPEC TOKENS up FORM SLICES down FORM SLICES MICROSECONDS [WRONG]
// A CUDA graph of 40 MLPs, their weights cold in L2; medians. WRONG: far from cuda.portable's result.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "../mlp_bench.h"
#include "cuda/cluster/plan.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::cuda::cluster;

struct Timed {
  ProductPlan plan;
  double us = 1e9;
};

std::vector<Timed> candidates(const cuda::ProductShape& shape, std::int64_t tokens) {
  std::vector<Timed> all;
  for (int form = 0; form < kFormCount; ++form) {
    for (const int slices : kSlices) {
      if (fits(shape, tokens, {form, slices})) all.push_back({{form, slices}});
    }
  }
  return all;
}

void sort(std::vector<Timed>& all) {
  std::sort(all.begin(), all.end(), [](const Timed& a, const Timed& b) { return a.us < b.us; });
}

// First products beside a middling second one, second products beside the best first one, then every pair of the
// best of both.
void sweep(const lab::MlpBench& bench, const std::string& text, std::int64_t tokens,
           const std::function<bool()>& over) {
  constexpr std::size_t kBest = 4;
  const MlpSpec spec = parse_spec(text).value();
  const DeviceInfo device = lab::take(fusedmlp::describe(Device::cuda()));
  const auto look = [&](const ProductPlan& up, const ProductPlan& down) {
    if (over()) return 1e9;
    const Drawn drawn = drawn_early(cuda::up_shape(spec), tokens, up, device);
    const auto queue = [&](const cuda::TwoGemms& products, cudaStream_t stream) {
      return mlp_bf16({products, cuda::fast_activation(spec), spec.gated, {up, down, drawn, 0}}, stream);
    };
    const double us = bench.microseconds(queue, tokens);
    const bool wrong = !(bench.difference(queue, tokens) < 0.02);
    std::printf("%s %lld up %d %d down %d %d %.3f%s\n", text.c_str(), static_cast<long long>(tokens), up.form,
                up.slices, down.form, down.slices, us, wrong ? " WRONG" : "");
    return us;
  };
  std::vector<Timed> ups = candidates(cuda::up_shape(spec), tokens),
                     downs = candidates(cuda::down_shape(spec), tokens);
  ProductPlan middle = downs.front().plan;
  for (const Timed& down : downs) {
    if (down.plan.form == middle.form && down.plan.slices <= 4) middle = down.plan;
  }
  for (Timed& up : ups) up.us = look(up.plan, middle);
  sort(ups);
  for (Timed& down : downs) down.us = look(ups.front().plan, down.plan);
  sort(downs);
  for (std::size_t i = 0; i < std::min(kBest, ups.size()); ++i) {
    for (std::size_t j = 0; j < std::min(kBest, downs.size()); ++j) {
      if (i > 0) look(ups[i].plan, downs[j].plan);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::function<bool()> over = lab::deadline(argc, argv);
  std::string text;
  std::optional<lab::MlpBench> bench;
  for (int i = 2; i + 1 < argc; i += 2) {
    if (text != argv[i]) {
      text = argv[i];
      bench.emplace(parse_spec(text).value(), kMostTokens);
    }
    sweep(*bench, text, std::atoll(argv[i + 1]), over);
  }
}
