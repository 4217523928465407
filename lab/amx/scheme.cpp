// Another scheme beside the library's plan, bf16: weights packed as tiles (gate and up side by side), products stored
// when a block of them ends and worked on at once or during the next block, no pauses; up to 256 tokens each thread
// computes half of the hidden and multiplies it on alone, and fp32 sums meet at the end; beyond, rows in blocks of
// 256. Two pinned threads, both cores' tile rate and L3 bandwidth measured around each call.
//   g++ -std=c++20 -O3 -march=sapphirerapids -Isrc -Iinclude -static lab/amx/scheme.cpp
//     BUILD/src/libfusedmlp_static.a -lz -pthread -o scheme
//   taskset -c 2,3 ./scheme SECONDS [SPEC TOKENS]...    768 wide; 32, 64 .. 256 tokens or a multiple of 512
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "core/numeric.h"
#include "cpu/amx_tiles.h"
#include "cpu/gate_table.h"
#include "fusedmlp/plan.h"
#include "fusedmlp/spec.h"
#include "two_threads.h"

namespace {

using namespace fusedmlp;
using Tiles = cpu::AmxTiles;

constexpr std::int64_t kSteps = 24;             // tiles of k of every block: 768
constexpr std::int64_t kPanel = kSteps * 2048;  // bytes of 32 rows or columns (gated: 16 and 16) and 768 k
constexpr std::int64_t kBlock = 1024;           // floats of 32 x 32 products
constexpr std::int64_t kWidth = 768;            // in and out

// Both threads run each task.
class TwoThreads : public Executor {
 public:
  TwoThreads() : worker_([this] { work(); }) { lab::pin(0); }
  ~TwoThreads() override {
    over_ = true;
    worker_.join();
  }
  int concurrency() const noexcept override { return 2; }
  void parallel(int count, void (*task)(void*, int), void* context) override {
    task_ = task;
    context_ = context;
    count_ = count;
    const int ticket = ++ticket_;
    for (int i = 0; i < count; i += 2) task(context, i);
    while (done_ != ticket) _mm_pause();
  }

 private:
  void work() {
    lab::pin(1);
    for (int seen = 0; !over_;) {
      if (ticket_ == seen) {
        _mm_pause();
        continue;
      }
      ++seen;
      for (int i = 1; i < count_; i += 2) task_(context_, i);
      done_ = seen;
    }
  }
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  int count_ = 0;
  std::atomic<int> ticket_{0}, done_{0};
  std::atomic<bool> over_{false};
  std::thread worker_;
};

struct Job {
  MlpSpec spec;
  std::int64_t tokens;
  const std::byte *x, *up, *down;
  std::byte* y;
  const float *up_bias, *down_bias;  // [hidden], gate's first if gated: [32] a panel
  struct Own {
    std::byte *x, *hidden;
    float *c, *sums;
  } own[2];
  mutable lab::Barrier barrier;
};

// A block's products and what becomes of them; null `sums` and `to` leave that out.
struct Pending {
  const float *c, *bias;
  float* sums;    // added to
  std::byte* to;  // bf16
  std::int64_t row_bytes;
  bool last;  // of the sums
};

struct Table {
  explicit Table(Activation a) {
    const cpu::GateTable& t = cpu::gate_table(a);
    scale = _mm512_set1_ps(t.scale);
    limit = _mm512_set1_ps(t.limit);
    for (int i = 0; i < 4; ++i) low[i] = _mm512_load_ps(t.c[i]), high[i] = _mm512_load_ps(t.c[i] + 16);
  }
  __m512 operator()(__m512 x) const {
    const __m512 size = _mm512_abs_ps(x), a = _mm512_min_ps(size, limit);
    const __m512i at = _mm512_castps_si512(_mm512_fmadd_ps(a, scale, _mm512_set1_ps(8388608.0f)));
    __m512 q = _mm512_permutex2var_ps(low[3], at, high[3]);
    for (int i = 2; i >= 0; --i) q = _mm512_fmadd_ps(q, a, _mm512_permutex2var_ps(low[i], at, high[i]));
    return _mm512_fmadd_ps(size, q, _mm512_mul_ps(x, _mm512_set1_ps(0.5f)));
  }
  __m512 scale, limit, low[4], high[4];
};

void put(std::byte* to, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(v));
}

template <bool kGated>
struct UpRow {
  Table act;
  void operator()(const Pending& p, std::int64_t r) const {
    const float* c = p.c + r * 32;
    const __m512 a = act(_mm512_add_ps(_mm512_load_ps(c), _mm512_load_ps(p.bias)));
    const __m512 b = _mm512_add_ps(_mm512_load_ps(c + 16), _mm512_load_ps(p.bias + 16));
    if (kGated) return put(p.to + r * 64, _mm512_mul_ps(a, b));
    put(p.to + r * 64, a);
    put(p.to + r * 64 + 32, act(b));
  }
};

struct DownRow {
  void operator()(const Pending& p, std::int64_t r) const {
    for (int i = 0; i < 32; i += 16) {
      __m512 v = _mm512_load_ps(p.c + r * 32 + i);
      if (p.sums) v = _mm512_add_ps(v, _mm512_load_ps(p.sums + r * 32 + i));
      if (!p.last) {
        _mm512_store_ps(p.sums + r * 32 + i, v);
      } else {
        put(p.to + r * p.row_bytes + i * 2, _mm512_add_ps(v, _mm512_load_ps(p.bias + i)));
      }
    }
  }
};

struct Ahead {
  const std::byte* at;
  int lines;  // a step
};

template <bool kPause, class Row>
void block(const std::byte* a, const std::byte* b, bool back, Ahead ahead, float* c, const Row& rows,
           const Pending* p) {
  const Row row = rows;
  const auto pause = [] {
    if constexpr (kPause) Tiles::pause();
  };
  Tiles::zero<0>();
  Tiles::zero<1>();
  Tiles::zero<2>();
  Tiles::zero<3>();
  for (std::int64_t s = 0; s < kSteps; ++s) {
    const std::int64_t k = (back ? kSteps - 1 - s : s) * 2048;
    Tiles::load_once<4>(a + k, 64);
    Tiles::load<6>(b + k, 64);
    pause();
    Tiles::load_once<5>(a + k + 1024, 64);
    pause();
    Tiles::load<7>(b + k + 1024, 64);
    pause();
    Tiles::multiply<0, 4, 6>();
    pause();
    Tiles::multiply<2, 5, 6>();
    pause();
    Tiles::multiply<3, 5, 7>();
    pause();
    Tiles::multiply<1, 4, 7>();
    pause();
    for (int i = 0; i < ahead.lines; ++i, ahead.at += 64) asm volatile("prefetcht1 %0" ::"m"(*ahead.at));
    if (p && s < 16) {
      row(*p, 2 * s);
      row(*p, 2 * s + 1);
    }
  }
  Tiles::store<0>(c, 128);
  Tiles::store<1>(c + 16, 128);
  Tiles::store<2>(c + 512, 128);
  Tiles::store<3>(c + 528, 128);
}

// `panels` panels, `b_step` bytes apart, times `pairs` pairs of rows, `a_step` apart. place(panel, pair): where the
// products go, or `sums` as they are (c null).
template <bool kPause, bool kMixed, class Row, class Place>
void stage(const std::byte* a, std::int64_t a_step, std::int64_t pairs, const std::byte* b, std::int64_t b_step,
           std::int64_t panels, const std::byte* after, float* buffer, const Row& row, const Place& place) {
  bool back = false;
  Pending open{};
  const auto all = [&](const Pending& p) {
    for (int r = 0; r < 32; ++r) row(p, r);
  };
  for (std::int64_t p = 0; p < panels; ++p, b += b_step) {
    Ahead ahead{p + 1 < panels ? b + b_step : after, static_cast<int>((32 + pairs - 1) / pairs)};
    for (std::int64_t pair = 0; pair < pairs; ++pair, back = !back) {
      Pending next = place(p, pair);
      float* to = next.c ? buffer : next.sums;
      block<kPause>(a + pair * a_step, b, back, ahead, to, row, kMixed && open.c ? &open : nullptr);
      ahead.at += ahead.lines * 64 * kSteps;
      if (!kMixed && next.c) all(next);
      open = next;
    }
  }
  if (kMixed && open.c) all(open);
}

// Rows of x as pairs of tiles.
void pack(const std::byte* x, std::int64_t rows, std::byte* to) {
  for (std::int64_t p = 0; p < rows; p += 32) {
    for (std::int64_t k = 0; k < kSteps; ++k) {
      for (std::int64_t r = 0; r < 32; ++r, to += 64) std::memcpy(to, x + (p + r) * kWidth * 2 + k * 64, 64);
    }
  }
}

template <bool kGated, bool kPause, bool kMixed>
void rows_of(const Job& j, int thread, std::int64_t row0, std::int64_t rows, std::int64_t h0, std::int64_t h1) {
  const auto& own = j.own[thread];
  const std::int64_t pairs = rows / 32, width = kGated ? 16 : 32, k_tiles = j.spec.d_hidden / 32, cut = kSteps * 32;
  const bool split = h1 - h0 < j.spec.d_hidden;
  pack(j.x + row0 * kWidth * 2, rows, own.x);
  for (std::int64_t h = h0; h < h1; h += cut) {
    const UpRow<kGated> up{Table(j.spec.activation)};
    const std::byte* down = j.down + h / 32 * 2048;
    stage<kPause, kMixed>(own.x, kPanel, pairs, j.up + h / width * kPanel, kPanel, cut / width, down, own.c, up,
                          [&](std::int64_t p, std::int64_t pair) {
                            const std::int64_t unit = p * width;
                            return Pending{own.c,   j.up_bias + (h + unit) / width * 32,
                                           nullptr, own.hidden + pair * kPanel + unit / 32 * 2048 + unit % 32 * 2,
                                           0,       true};
                          });
    const bool last = h + cut == h1;
    stage<kPause, kMixed>(own.hidden, kPanel, pairs, down, k_tiles * 2048, kWidth / 32,
                          j.up + (last ? h0 : h + cut) / width * kPanel, own.c, DownRow(),
                          [&](std::int64_t p, std::int64_t pair) {
                            return Pending{h == h0 ? nullptr : own.c,
                                           j.down_bias + p * 32,
                                           own.sums + (p * pairs + pair) * kBlock,
                                           j.y + ((row0 + pair * 32) * kWidth + p * 32) * 2,
                                           kWidth * 2,
                                           last && !split};
                          });
  }
}

template <bool kGated, bool kPause, bool kMixed>
void scheme(void* context, int thread) {
  const Job& j = *static_cast<const Job*>(context);
  Tiles::configure(16);
  if (j.tokens > 256) {
    for (std::int64_t r = j.tokens / 2 * thread; r < j.tokens / 2 * (thread + 1); r += 256) {
      rows_of<kGated, kPause, kMixed>(j, thread, r, 256, 0, j.spec.d_hidden);
    }
  } else {
    const std::int64_t half = j.spec.d_hidden / 2, pairs = j.tokens / 32;
    rows_of<kGated, kPause, kMixed>(j, thread, 0, j.tokens, half * thread, half * (thread + 1));
    j.barrier.wait();
    for (std::int64_t b = thread; b < kWidth / 32 * pairs; b += 2) {
      const Pending p{j.own[0].sums + b * kBlock,
                      j.down_bias + b / pairs * 32,
                      j.own[1].sums + b * kBlock,
                      j.y + (b % pairs * 32 * kWidth + b / pairs * 32) * 2,
                      kWidth * 2,
                      true};
      for (int r = 0; r < 32; ++r) DownRow()(p, r);
    }
  }
  Tiles::release();
}

// What the cores do at the moment: products alone, and L3.
constexpr int kRefs = 1500;
constexpr double kStepFlops = 4.0 * 2 * 16 * 16 * 32;
alignas(4096) std::byte some_tiles[4096];
std::byte* stream[2];
constexpr std::int64_t kStream = std::int64_t{8} << 20, kPiece = 256 << 10;
struct State {
  double products[2], bytes[2];
} now;

double since(lab::Clock::time_point start) {
  return std::chrono::duration<double>(lab::Clock::now() - start).count() * 1e6;
}

void measure(void*, int thread) {
  static std::int64_t at[2];
  auto start = lab::Clock::now();
  for (std::int64_t i = 0; i < kPiece; i += 64) {
    asm volatile("vmovdqa64 %0, %%zmm0" ::"m"(*(stream[thread] + at[thread] + i)) : "xmm0");
  }
  at[thread] = (at[thread] + kPiece) % kStream;
  now.bytes[thread] = kPiece / since(start) * 1e-3;
  Tiles::configure(16);
  Tiles::load<4>(some_tiles, 64);
  Tiles::load<5>(some_tiles + 1024, 64);
  Tiles::load<6>(some_tiles + 2048, 64);
  Tiles::load<7>(some_tiles + 3072, 64);
  start = lab::Clock::now();
  for (int i = 0; i < kRefs; ++i) {
    Tiles::multiply<0, 4, 6>();
    Tiles::multiply<1, 4, 7>();
    Tiles::multiply<2, 5, 6>();
    Tiles::multiply<3, 5, 7>();
  }
  now.products[thread] = since(start);
  Tiles::release();
}

std::uint16_t* normal(std::int64_t count, double deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, static_cast<float>(deviation));
  auto* values = reinterpret_cast<std::uint16_t*>(lab::operands(static_cast<std::size_t>(count) * 2));
  std::vector<float> some(1 << 16);
  for (float& v : some) v = distribution(random);
  for (std::int64_t i = 0; i < count; ++i) values[i] = core::float_to_bf16(some[random() % some.size()]);
  return values;
}

// Rows [row, row + 16) of a matrix [rows, k] as tiles at every second tile of `to`.
void pack_tiles(const std::uint16_t* w, std::int64_t row, std::int64_t k, std::byte* to) {
  for (std::int64_t t = 0; t < k / 32; ++t, to += 2048) {
    for (std::int64_t i = 0; i < 512; ++i) {
      std::memcpy(to + i * 2, w + (row + i / 2 % 16) * k + t * 32 + i / 32 * 2 + i % 2, 2);
    }
  }
}

void compare(TwoThreads& threads, const char* text, std::int64_t tokens, double budget) {
  const MlpSpec s = *parse_spec(text);
  const std::int64_t h = s.d_hidden, elements = h * kWidth;
  const bool bias = s.bias_up;
  const double k = 1 / std::sqrt(static_cast<double>(kWidth));
  const auto *gate = normal(elements, k, 1), *up = normal(elements, k, 2), *down = normal(elements, k, 3);
  const auto *x = normal(tokens * kWidth, 1, 4), *b1 = normal(h, 0.1, 5), *b2 = normal(kWidth, 0.1, 6);
  auto *y = lab::operands(static_cast<std::size_t>(tokens * kWidth * 2)), *y2 = lab::operands(tokens * kWidth * 2);
  MlpWeights w;
  if (s.gated) w.gate = {gate, h, kWidth, kWidth, 1};
  w.up = {up, h, kWidth, kWidth, 1};
  w.down = {down, kWidth, h, h, 1};
  if (bias) w.bias_up = {b1, h, 1};
  if (bias) w.bias_down = {b2, kWidth, 1};
  auto plan = Plan::create(s, w);
  Job j{s, tokens, reinterpret_cast<const std::byte*>(x), nullptr, nullptr, y2, nullptr, nullptr, {}, {}};
  auto *tiles = lab::operands(elements * 6), *down_tiles = tiles + elements * 4;
  const std::int64_t width = s.gated ? 16 : 32;
  for (std::int64_t p = 0; p < h / width; ++p) {
    pack_tiles(s.gated ? gate : up, p * width, kWidth, tiles + p * kPanel);
    pack_tiles(up, p * width + (s.gated ? 0 : 16), kWidth, tiles + p * kPanel + 1024);
  }
  for (std::int64_t p = 0; p < kWidth / 16; ++p) {
    pack_tiles(down, p * 16, h, down_tiles + p / 2 * h * 64 + p % 2 * 1024);
  }
  auto* biases = reinterpret_cast<float*>(lab::operands(16384 * 4));
  std::memset(biases, 0, 16384 * 4);
  for (std::int64_t i = 0; bias && i < h; ++i) biases[i] = core::bf16_to_float(b1[i]);
  for (std::int64_t i = 0; bias && i < kWidth; ++i) biases[8192 + i] = core::bf16_to_float(b2[i]);
  j.up = tiles, j.down = down_tiles, j.up_bias = biases, j.down_bias = biases + 8192;
  for (auto& own : j.own) {
    own = {lab::operands(256 * kWidth * 2), lab::operands(256 * kWidth * 2), nullptr, nullptr};
    own.c = reinterpret_cast<float*>(lab::operands(4096));
    own.sums = reinterpret_cast<float*>(lab::operands(256 * kWidth * 4));
  }
  const auto any = [&](auto f) { return [&j, &threads, f] { threads.parallel(2, f, &j); }; };
  const auto of = [&](auto plain, auto gated) { return s.gated ? gated : plain; };
  struct Way {
    const char* name;
    std::function<void()> run;
    std::vector<double> us = {};
  };
  std::vector<Way> ways{{"library", [&] {
                           RunArgs args;
                           args.x = x, args.y = y, args.tokens = tokens, args.executor = &threads;
                           if (!plan->run(args).ok()) std::abort();
                         }}};
  ways.push_back({"scheme", any(of(&scheme<false, false, false>, &scheme<true, false, false>))});
  ways.push_back({"scheme, mixed", any(of(&scheme<false, false, true>, &scheme<true, false, true>))});
  ways.push_back({"scheme, mixed, pauses", any(of(&scheme<false, true, true>, &scheme<true, true, true>))});
  // How far the scheme is from the library; both round the hidden to bf16.
  for (Way& way : ways) way.run();
  double apart = 0, norm = 0;
  for (std::int64_t i = 0; i < tokens * kWidth; ++i) {
    std::uint16_t bits[2];
    std::memcpy(&bits[0], y + 2 * i, 2);
    std::memcpy(&bits[1], y2 + 2 * i, 2);
    apart += std::pow(core::bf16_to_float(bits[0]) - core::bf16_to_float(bits[1]), 2);
    norm += std::pow(core::bf16_to_float(bits[0]), 2);
  }
  std::vector<State> states;
  const auto state = [&] {
    threads.parallel(2, &measure, nullptr);
    states.push_back(now);
  };
  const auto start = lab::Clock::now();
  while (since(start) < budget * 1e6) {
    for (Way& way : ways) {
      // Each has weights of its own, which two calls bring back to L3.
      way.run();
      way.run();
      state();
      const auto t = lab::Clock::now();
      way.run();
      way.us.push_back(since(t));
      state();
    }
  }
  double best = 1e9;
  std::vector<double> l3;
  for (const State& a : states) {
    best = std::min({best, a.products[0], a.products[1]});
    l3.push_back(a.bytes[0] + a.bytes[1]);
  }
  const double rate = 2 * kRefs * kStepFlops / best * 1e-6;
  std::printf(
      "\n%s, %lld tokens, %.4f apart, products alone %.2f TFLOP/s at best, L3 %.0f GB/s in the median, %.0f at "
      "best\n%-26s %8s %8s %8s | both cores alone  | one busy          | both busy\n",
      text, static_cast<long long>(tokens), std::sqrt(apart / norm), rate, lab::percentile(l3, 0.5),
      lab::percentile(l3, 0.9), "", "best", "quarter", "median");
  const auto alone = [&](const State& a) { return (a.products[0] < 1.25 * best) + (a.products[1] < 1.25 * best); };
  const double work = flops(s, tokens) * 1e-6;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    std::vector<double> in[3], ratios;
    for (std::size_t n = 0; n < ways[i].us.size(); ++n) {
      const std::size_t at = 2 * (n * ways.size() + i);
      const int a = alone(states[at]);
      if (a == alone(states[at + 1])) in[2 - a].push_back(ways[i].us[n]);
      ratios.push_back(ways[0].us[n] / ways[i].us[n]);
    }
    const double least = lab::percentile(ways[i].us, 0);
    std::printf("%-26s %8.1f %8.1f %8.1f |", ways[i].name, least, lab::percentile(ways[i].us, 0.25),
                lab::percentile(ways[i].us, 0.5));
    for (const auto& us : in) {
      const double median = us.empty() ? 0 : lab::percentile(us, 0.5);
      std::printf(" %7.0f %3.0f %% (%3zu) |", median, us.empty() ? 0 : 100 * work / median / rate, us.size());
    }
    std::printf(" best %.0f %% of the rate, library/this %.3f\n", 100 * work / least / rate,
                lab::percentile(ratios, 0.5));
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (!lab::allow_amx() || argc < 4) return 1;
  lab::fill(some_tiles, sizeof some_tiles);
  for (auto& s : stream) s = lab::operands(kStream);
  TwoThreads threads;
  for (int i = 2; i + 1 < argc; i += 2) compare(threads, argv[i], std::atoll(argv[i + 1]), std::atof(argv[1]));
  return 0;
}
