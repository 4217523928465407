// Times tiles of cuda.sm90, the second product's k in slices over a cluster too, one product at a time and in pairs:
//   plans SECONDS [SPEC TOKENS]...      a line a product or pair:
//   SPEC TOKENS up TILE MICROSECONDS
//   SPEC TOKENS down TILE COLUMNS SLICES MICROSECONDS
//   SPEC TOKENS up TILE down TILE COLUMNS SLICES MICROSECONDS [WRONG]
// Columns and slices of a Split; 0 and 1 where the down product has TILE. Bursts of CUDA graphs of 40 MLPs after
// pauses, their weights cold in L2; medians. WRONG: far from cuda.portable's result.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../mlp_bench.h"
#include "cuda/sm90/split.h"

namespace {

using namespace fusedmlp;
using namespace fusedmlp::cuda::sm90;

constexpr std::chrono::milliseconds kPause{15};

struct Product {
  int tile;
  Split split;
};

void sweep(const std::string& text, std::int64_t tokens, const std::function<bool()>& over) {
  const MlpSpec spec = parse_spec(text).value();
  const lab::MlpBench bench(spec, tokens);
  const int sms = describe(Device::cuda())->cores;
  std::vector<Product> ups, downs;
  for (int i = 0; i < kTileCount; ++i) {
    if (kTiles[i].gated == spec.gated) ups.push_back({i, {0, 1}});
    if (!kTiles[i].gated) downs.push_back({i, {0, 1}});
  }
  const auto tiles = [](std::int64_t count, int tile) { return (count + tile - 1) / tile; };
  for (const Split& split : kSplits) {
    const std::int64_t ctas = tiles(tokens, kSplitRows) * tiles(spec.d_out, split.columns) * split.slices;
    if (ctas <= 2 * sms && spec.d_hidden >= split.slices * kLeastSlice) downs.push_back({0, split});
  }
  const auto queue_up = [&](const Product& product, const cuda::TwoGemms& products, cudaStream_t stream) {
    GemmCall call;
    call.gemm = products.hidden;
    call.activation = fast_activation(spec);
    call.tile = product.tile;
    call.sms = sms;
    call.overlaps_predecessor = true;
    return spec.gated ? gemm_bf16_gated(call, stream) : gemm_bf16(call, stream);
  };
  const auto queue_down = [&](const Product& product, const cuda::TwoGemms& products, cudaStream_t stream) {
    GemmCall call;
    call.gemm = products.out;
    call.tile = product.tile;
    call.sms = sms;
    call.overlaps_predecessor = true;
    call.weights_ready = true;
    return product.split.slices > 1 ? split_bf16(call, product.split, stream) : gemm_bf16(call, stream);
  };
  const auto time = [&](const auto& queue) { return over() ? 1e9 : bench.microseconds(queue, tokens, kPause); };
  const std::string head = text + ' ' + std::to_string(tokens);
  std::vector<double> up_times, down_times;
  for (const Product& up : ups) {
    up_times.push_back(
        time([&](const cuda::TwoGemms& products, cudaStream_t stream) { return queue_up(up, products, stream); }));
    std::printf("%s up %d %.3f\n", head.c_str(), up.tile, up_times.back());
  }
  for (const Product& down : downs) {
    down_times.push_back(time(
        [&](const cuda::TwoGemms& products, cudaStream_t stream) { return queue_down(down, products, stream); }));
    std::printf("%s down %d %d %d %.3f\n", head.c_str(), down.tile, down.split.columns, down.split.slices,
                down_times.back());
  }
  const auto good = [](const std::vector<double>& times, std::size_t i) {
    return times[i] < 1.15 * *std::min_element(times.begin(), times.end());
  };
  for (std::size_t i = 0; i < ups.size(); ++i) {
    for (std::size_t j = 0; j < downs.size(); ++j) {
      if (!good(up_times, i) || !good(down_times, j) || over()) continue;
      const auto queue = [&](const cuda::TwoGemms& products, cudaStream_t stream) {
        const Status status = queue_up(ups[i], products, stream);
        return status ? queue_down(downs[j], products, stream) : status;
      };
      const bool wrong = !(bench.difference(queue, tokens) < 0.02);
      std::printf("%s up %d down %d %d %d %.3f%s\n", head.c_str(), ups[i].tile, downs[j].tile, downs[j].split.columns,
                  downs[j].split.slices, time(queue), wrong ? " WRONG" : "");
    }
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::function<bool()> over = lab::deadline(argc, argv);
  for (int i = 2; i + 1 < argc; i += 2) sweep(argv[i], std::atoll(argv[i + 1]), over);
}
