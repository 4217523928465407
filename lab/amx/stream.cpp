// Where products wait while weights come from L3: tile loads from L1 or L2 or none, with lines of the next panel
// drawn into L2 or not. Two pinned threads, 2 x 2 tiles, variants in turn.
//   g++ -std=c++20 -O2 -march=sapphirerapids -Isrc -static -pthread lab/amx/stream.cpp -o stream
//   taskset -c 2,3 ./stream [seconds]
#include "two_threads.h"

#include "cpu/amx_tiles.h"

namespace {

using Tiles = fusedmlp::cpu::AmxTiles;

constexpr std::int64_t kSteps = 24;  // of a panel: 768 k
constexpr std::int64_t kPanels = 170;
constexpr std::int64_t kPanelBytes = kSteps * 2048;
constexpr double kStepFlops = 4.0 * 2 * 16 * 16 * 32;

std::byte* a_of[2];
std::byte* w_of[2];

enum class From { none, l1, l2, l3 };
enum class Ahead { none, t2, t1, t0_near };

template <From kA, From kB, Ahead kAhead, bool kPauses, bool kForward>
void products(int thread, std::int64_t pairs, bool multiply) {
  const auto pause = [] {
    if constexpr (kPauses) Tiles::pause();
  };
  const std::byte* ahead = w_of[thread];
  const std::int64_t lines = 32 / pairs;
  bool backward = false;
  for (std::int64_t p = 0; p < kPanels; ++p) {
    const std::byte* panel = w_of[thread];
    if (kB == From::l2) panel += p % 8 * kPanelBytes;
    if (kB == From::l3) panel += p * kPanelBytes;
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      Tiles::zero<0>();
      Tiles::zero<1>();
      Tiles::zero<2>();
      Tiles::zero<3>();
      for (std::int64_t s = 0; s < kSteps; ++s) {
        const std::int64_t k = backward ? kSteps - 1 - s : s;
        const std::byte* a = a_of[thread] + (kA == From::l1 ? s % 4 : pair * kSteps + k) * 2048;
        const std::byte* b = panel + (kB == From::l1 ? s % 4 : k) * 2048;
        if (kA != From::none) Tiles::load_once<4>(a, 64);
        if (kB != From::none) Tiles::load<6>(b, 128);
        pause();
        if (kA != From::none) Tiles::load_once<5>(a + 1024, 64);
        pause();
        if (kB != From::none) Tiles::load<7>(b + 64, 128);
        pause();
        if (kAhead == Ahead::t0_near) {
          const std::byte* near = panel + (backward ? k - 3 : k + 3) * 2048;
          for (std::int64_t i = 0; i < 32; ++i) __builtin_prefetch(near + i * 64, 0, 3);
        }
        if (multiply) Tiles::multiply<0, 4, 6>();
        pause();
        for (std::int64_t i = 0; i < lines / 2; ++i) {
          if (kAhead == Ahead::t1) __builtin_prefetch(ahead + i * 64, 0, 2);
          if (kAhead == Ahead::t2 || kAhead == Ahead::t0_near) __builtin_prefetch(ahead + i * 64, 0, 1);
        }
        if (multiply) Tiles::multiply<2, 5, 6>();
        pause();
        if (multiply) Tiles::multiply<3, 5, 7>();
        pause();
        for (std::int64_t i = lines / 2; i < lines; ++i) {
          if (kAhead == Ahead::t1) __builtin_prefetch(ahead + i * 64, 0, 2);
          if (kAhead == Ahead::t2 || kAhead == Ahead::t0_near) __builtin_prefetch(ahead + i * 64, 0, 1);
        }
        if (multiply) Tiles::multiply<1, 4, 7>();
        pause();
        ahead += lines * 64;
      }
      if (!kForward) backward = !backward;
    }
    if (p == 0) ahead = w_of[thread] + 2 * kPanelBytes;  // the first panel is waited for, the others are one ahead
  }
}

template <int kHint>
void draw_in(int thread) {
  for (std::int64_t i = 0; i < kPanels * kPanelBytes; i += 64) __builtin_prefetch(w_of[thread] + i, 0, kHint);
}

void read_all(int thread) {
  __m512i sums[4] = {};
  for (std::int64_t i = 0; i < kPanels * kPanelBytes; i += 256) {
    for (int j = 0; j < 4; ++j) sums[j] = _mm512_add_epi32(sums[j], _mm512_load_si512(w_of[thread] + i + 64 * j));
  }
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
  asm volatile("" ::"v"(sum));
}

template <From kA, From kB, Ahead kAhead, bool kPauses = true, bool kForward = false>
void add(std::vector<lab::Variant>& to, const char* name, std::int64_t pairs, bool multiply = true) {
  to.push_back({name, [=](int thread) { products<kA, kB, kAhead, kPauses, kForward>(thread, pairs, multiply); },
                kAhead == Ahead::none && kB != From::l3 ? 0.0 : kPanels * kPanelBytes,
                multiply ? static_cast<double>(pairs * kPanels * kSteps) * kStepFlops : 0.0});
}

}  // namespace

int main(int argc, char** argv) {
  if (!lab::allow_amx()) return 1;
  for (int t = 0; t < 2; ++t) {
    a_of[t] = lab::operands(8 * kPanelBytes);
    w_of[t] = lab::operands((kPanels + 4) * kPanelBytes);
  }
  const double budget = argc > 1 ? std::atof(argv[1]) : 10;
  for (const std::int64_t pairs : {2, 4, 8}) {
    std::vector<lab::Variant> v;
    const double bytes = kPanels * kPanelBytes;
    v.push_back({"reading by loads", &read_all, bytes});
    v.push_back({"drawing in, T1", &draw_in<2>, bytes});
    v.push_back({"drawing in, T2", &draw_in<1>, bytes});
    add<From::none, From::none, Ahead::none>(v, "products alone", pairs);
    add<From::none, From::none, Ahead::t2>(v, "products, weights drawn in", pairs);
    add<From::l1, From::l1, Ahead::none>(v, "A L1, B L1", pairs);
    add<From::l1, From::l1, Ahead::t2>(v, "A L1, B L1, drawn in", pairs);
    add<From::l2, From::l1, Ahead::none>(v, "A L2, B L1", pairs);
    add<From::l2, From::l1, Ahead::t2>(v, "A L2, B L1, drawn in", pairs);
    add<From::l1, From::l2, Ahead::none>(v, "A L1, B L2", pairs);
    add<From::l1, From::l3, Ahead::t2>(v, "A L1, B L3, drawn in", pairs);
    add<From::l2, From::l2, Ahead::none>(v, "A L2, B L2", pairs);
    add<From::l2, From::l3, Ahead::t2>(v, "A L2, B L3, drawn in (as it is)", pairs);
    add<From::l2, From::l3, Ahead::t1>(v, "the same by T1", pairs);
    add<From::l2, From::l3, Ahead::none>(v, "the same, not drawn in", pairs);
    add<From::l2, From::l3, Ahead::t2, false>(v, "the same, no pauses", pairs);
    add<From::l2, From::l3, Ahead::t2, true, true>(v, "the same, always forward", pairs);
    add<From::l2, From::l3, Ahead::t0_near>(v, "the same, B into L1 three steps before", pairs);
    add<From::l2, From::l2, Ahead::none>(v, "A L2, B L2, loads alone", pairs, false);
    add<From::l2, From::l3, Ahead::t2>(v, "A L2, B L3, drawn in, loads alone", pairs, false);
    add<From::l1, From::l3, Ahead::t2>(v, "A L1, B L3, drawn in, loads alone", pairs, false);
    add<From::none, From::l3, Ahead::t2>(v, "no A, B L3, drawn in, loads alone", pairs, false);
    lab::run_in_turn(v, 400, budget / 3, [] { Tiles::configure(16); });
    std::printf("\n%lld pairs of rows, %zu rounds\n", static_cast<long long>(pairs), v[0].seconds.size());
    lab::report(v);
  }
  return 0;
}
