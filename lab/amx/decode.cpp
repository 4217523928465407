// One row times bf16 panels from L3 on two pinned threads: what a step may cost beside reading, how far ahead to draw
// in and by which hint, how many streams. Variants in turn; x stays in fp32 as in cpu.columns.
//   g++ -std=c++20 -O2 -march=sapphirerapids -Isrc -static -pthread lab/amx/decode.cpp -o decode
//   taskset -c 2,3 ./decode [seconds]
#include "two_threads.h"

namespace {

std::int64_t k_of_panel = 768;
std::int64_t panels = 0;  // of both threads, a multiple of 8
std::byte* weights;
alignas(64) float x[8192];
alignas(64) float c[2][4096];

enum class Hint { none, t0, t1, t2 };

template <Hint kHint>
void prefetch(const std::byte* at) {
  if constexpr (kHint == Hint::t0) __builtin_prefetch(at, 0, 3);
  if constexpr (kHint == Hint::t1) __builtin_prefetch(at, 0, 2);
  if constexpr (kHint == Hint::t2) __builtin_prefetch(at, 0, 1);
}

// The calling thread's share of the panels.
const std::byte* share(int thread) { return weights + thread * (panels / 2) * k_of_panel * 64; }

template <Hint kHint>
void read_all(int thread, std::int64_t distance) {
  __m512i sums[4] = {};
  const std::byte* at = share(thread);
  const std::byte* end = at + panels / 2 * k_of_panel * 64;
  for (; at < end; at += 256) {
    for (int j = 0; j < 4; ++j) {
      sums[j] = _mm512_add_epi32(sums[j], _mm512_load_si512(at + 64 * j));
      prefetch<kHint>(at + 64 * j + distance);
    }
  }
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
  asm volatile("" ::"v"(sum));
}

// kStreams panels side by side, in blocks of `block` k: as isa_kernels' tile of one row, which has 256.
template <Hint kHint, int kStreams, bool kDot = false>
void product(int thread, std::int64_t distance, std::int64_t block) {
  const std::int64_t mine = panels / 2;
  const std::int64_t panel_bytes = k_of_panel * 64;
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const std::byte* base = share(thread);
  for (std::int64_t p = 0; p < mine; p += kStreams) {
    float* to = c[thread] + p % 64 * 32;
    for (std::int64_t k0 = 0; k0 < k_of_panel; k0 += block) {
      __m512 acc[kStreams][4];
      for (auto& s : acc) {
        for (auto& v : s) v = _mm512_setzero_ps();
      }
      const std::int64_t k1 = std::min(k0 + block, k_of_panel);
      const std::byte* at = base + p * panel_bytes + k0 * 64;
      for (std::int64_t k = k0; k < k1; k += 2, at += 128) {
        const __m512 x0 = _mm512_set1_ps(x[k]), x1 = _mm512_set1_ps(x[k + 1]);
#pragma GCC unroll 4
        for (int s = 0; s < kStreams; ++s) {
          const std::byte* w = at + s * panel_bytes;
          __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64);
          asm("" : "+v"(w0), "+v"(w1));
          if constexpr (kDot) {
            const auto pair = reinterpret_cast<__m512bh>(_mm512_set1_epi32(reinterpret_cast<const int*>(x)[k / 2]));
            acc[s][0] = _mm512_dpbf16_ps(acc[s][0], pair, reinterpret_cast<__m512bh>(w0));
            acc[s][1] = _mm512_dpbf16_ps(acc[s][1], pair, reinterpret_cast<__m512bh>(w1));
          } else {
            acc[s][0] = _mm512_fmadd_ps(x0, _mm512_castsi512_ps(_mm512_slli_epi32(w0, 16)), acc[s][0]);
            acc[s][1] = _mm512_fmadd_ps(x0, _mm512_castsi512_ps(_mm512_slli_epi32(w1, 16)), acc[s][1]);
            acc[s][2] = _mm512_fmadd_ps(x1, _mm512_castsi512_ps(_mm512_and_si512(w0, high)), acc[s][2]);
            acc[s][3] = _mm512_fmadd_ps(x1, _mm512_castsi512_ps(_mm512_and_si512(w1, high)), acc[s][3]);
          }
          prefetch<kHint>(w + distance);
          prefetch<kHint>(w + distance + 64);
        }
      }
      for (int s = 0; s < kStreams; ++s) {
        _mm512_store_ps(to + s * 32, _mm512_add_ps(acc[s][0], acc[s][2]));
        _mm512_store_ps(to + s * 32 + 16, _mm512_add_ps(acc[s][1], acc[s][3]));
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const double budget = argc > 1 ? std::atof(argv[1]) : 10;
  for (float& v : x) v = 0.01f;
  struct Size {
    std::int64_t k, panels;
  };
  for (const Size size : {Size{768, 288}, Size{768, 192}, Size{2048, 528}}) {
    k_of_panel = size.k;
    panels = size.panels;
    weights = lab::operands(static_cast<std::size_t>(panels * k_of_panel * 64 + (1 << 20)));
    const double bytes = static_cast<double>(panels / 2 * k_of_panel * 64);
    std::vector<lab::Variant> v;
    const auto reading = [&](const char* name, auto f, std::int64_t distance) {
      v.push_back({name, [=](int t) { f(t, distance); }, bytes});
    };
    reading("read", &read_all<Hint::none>, 0);
    reading("read, T1 4 KiB", &read_all<Hint::t1>, 4 << 10);
    reading("read, T1 16 KiB", &read_all<Hint::t1>, 16 << 10);
    reading("read, T2 16 KiB", &read_all<Hint::t2>, 16 << 10);
    reading("read, T0 4 KiB", &read_all<Hint::t0>, 4 << 10);
    const auto times = [&](const char* name, auto f, std::int64_t distance, std::int64_t block) {
      v.push_back({name, [=](int t) { f(t, distance, block); }, bytes});
    };
    times("row, T1 16 KiB, blocks of 256 (as it is)", &product<Hint::t1, 1>, 16 << 10, 256);
    times("row, T2 16 KiB", &product<Hint::t2, 1>, 16 << 10, 256);
    times("row, T1 4 KiB", &product<Hint::t1, 1>, 4 << 10, 256);
    times("row, T1 8 KiB", &product<Hint::t1, 1>, 8 << 10, 256);
    times("row, T1 32 KiB", &product<Hint::t1, 1>, 32 << 10, 256);
    times("row, T1 64 KiB", &product<Hint::t1, 1>, 64 << 10, 256);
    times("row, T0 4 KiB", &product<Hint::t0, 1>, 4 << 10, 256);
    times("row, no hints", &product<Hint::none, 1>, 0, 256);
    times("row, T1 16 KiB, blocks of 2048", &product<Hint::t1, 1>, 16 << 10, 2048);
    times("row, two panels, T1 16 KiB", &product<Hint::t1, 2>, 16 << 10, 256);
    times("row, two panels, T2 16 KiB", &product<Hint::t2, 2>, 16 << 10, 256);
    times("row, two panels, no hints", &product<Hint::none, 2>, 0, 256);
    times("row, four panels, T1 16 KiB", &product<Hint::t1, 4>, 16 << 10, 256);
    times("row, four panels, T2 8 KiB", &product<Hint::t2, 4>, 8 << 10, 256);
    times("row, dot, T1 16 KiB", &product<Hint::t1, 1, true>, 16 << 10, 256);
    times("row, dot, no hints", &product<Hint::none, 1, true>, 0, 256);
    lab::run_in_turn(v, 400, budget / 3, [] {});
    std::printf("\n%lld panels of %lld k, %.1f MB, %zu rounds\n", static_cast<long long>(panels),
                static_cast<long long>(k_of_panel), 2e-6 * bytes, v[0].seconds.size());
    lab::report(v);
    std::free(weights);
  }
  return 0;
}
