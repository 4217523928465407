// Times MLPs of cuda.sm90 by pairs of products:
//   plans SECONDS [SPEC TOKENS]...      a line a pair, as tests/data/gpu/sm90_pairs.txt has them:
//   SPEC TOKENS up TILE down INDEX ORDER MICROSECONDS [WRONG]
// INDEX counts the tiles, then the splits; ORDER says whether the second product overlaps the first or waits. Bursts
// of CUDA graphs of 40 MLPs after pauses, their weights cold in L2; medians. WRONG: far from cuda.portable's result.
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

void sweep(const std::string& text, std::int64_t tokens, const std::function<bool()>& over) {
  const MlpSpec spec = parse_spec(text).value();
  const lab::MlpBench bench(spec, tokens);
  const int sms = describe(Device::cuda())->cores;
  std::vector<int> ups;
  std::vector<Choice> downs;
  for (int i = 0; i < kTileCount; ++i) {
    if (kTiles[i].gated == spec.gated) ups.push_back(i);
    if (kTiles[i].gated) continue;
    downs.push_back({i, -1, true});
    downs.push_back({i, -1, false});
  }
  const auto tiles = [](std::int64_t count, int tile) { return (count + tile - 1) / tile; };
  for (int i = 0; i < kSplitCount; ++i) {
    const Split& split = kSplits[i];
    const std::int64_t ctas = tiles(tokens, kSplitRows) * tiles(spec.d_out, split.columns) * split.slices;
    if (ctas <= 2 * sms && spec.d_hidden >= split.slices * kLeastSlice) downs.push_back({-1, i, true});
  }
  const auto queue_up = [&](int tile, const cuda::TwoGemms& products, cudaStream_t stream) {
    GemmCall call;
    call.gemm = products.hidden;
    call.activation = fast_activation(spec);
    call.tile = tile;
    call.sms = sms;
    call.overlaps_predecessor = true;
    draw_weights(call, products.out);
    return spec.gated ? gemm_bf16_gated(call, stream) : gemm_bf16(call, stream);
  };
  const auto queue_down = [&](const Choice& choice, const cuda::TwoGemms& products, cudaStream_t stream) {
    GemmCall call;
    call.gemm = products.out;
    call.tile = choice.tile;
    call.sms = sms;
    call.overlaps_predecessor = choice.overlaps;
    call.second = true;
    return choice.split < 0 ? gemm_bf16(call, stream) : split_bf16(call, choice.split, stream);
  };
  const auto time = [&](const auto& queue) { return over() ? 1e9 : bench.microseconds(queue, tokens, kPause); };
  std::vector<double> up_times, down_times;  // alone
  for (const int up : ups) {
    up_times.push_back(
        time([&](const cuda::TwoGemms& products, cudaStream_t stream) { return queue_up(up, products, stream); }));
  }
  for (const Choice& down : downs) {
    down_times.push_back(time(
        [&](const cuda::TwoGemms& products, cudaStream_t stream) { return queue_down(down, products, stream); }));
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
      std::printf("%s %lld up %d down %d %s %.3f%s\n", text.c_str(), static_cast<long long>(tokens), ups[i],
                  downs[j].split < 0 ? downs[j].tile : kTileCount + downs[j].split,
                  downs[j].overlaps ? "overlaps" : "waits", time(queue), wrong ? " WRONG" : "");
    }
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::function<bool()> over = lab::deadline(argc, argv);
  for (int i = 2; i + 1 < argc; i += 2) sweep(argv[i], std::atoll(argv[i + 1]), over);
}
