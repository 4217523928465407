// What the end of a block of products costs, on two pinned threads: 2 x 2 products of rows that lie in L2 and a panel
// of at most 48 KiB, stored when the block ends or while the next begins, and loads before a step's products or
// between those of the step before. Variants in turn; "quarter" is a core alone when the host is mostly at rest.
//   g++ -std=c++20 -O2 -march=sapphirerapids -Isrc -static -pthread lab/amx/blocks.cpp -o blocks
//   taskset -c 2,3 ./blocks [seconds]
#include "two_threads.h"

#include "cpu/amx_tiles.h"

namespace {

using Tiles = fusedmlp::cpu::AmxTiles;

constexpr int kSteps = 1536;  // of all blocks
constexpr int kPairs = 8;     // of rows
constexpr std::int64_t kPairBytes = 24 * 2048;
constexpr double kStepFlops = 4.0 * 2 * 16 * 16 * 32;

std::byte* a_of[2];
std::byte* b_of[2];
alignas(4096) float products[2][1024];

enum class Ends { none, stored, stored_by_next };

template <int kTile>
void store(float* c) {
  Tiles::store<kTile>(c + kTile / 2 * 512 + kTile % 2 * 16, 128);
}

template <int kTile, int kA, int kB, Ends kEnds>
void multiply(bool first, float* c) {
  if (first && kEnds != Ends::none) {
    if (kEnds == Ends::stored_by_next) store<kTile>(c);
    Tiles::zero<kTile>();
  }
  Tiles::multiply<kTile, kA, kB>();
  Tiles::pause();
}

template <Ends kEnds, bool kEarly>
void blocks(int thread, int steps) {
  float* c = products[thread];
  for (int block = 0; block * steps < kSteps; ++block) {
    const std::byte* rows = a_of[thread] + block % kPairs * kPairBytes;
    const auto k_of = [&](int s) { return (block % 2 == 1 ? steps - 1 - s : s) * 2048; };
    const auto load = [&](int tile, int s) __attribute__((always_inline)) {
      if (s >= steps) return;
      if (tile == 4) Tiles::load_once<4>(rows + k_of(s), 64);
      if (tile == 5) Tiles::load_once<5>(rows + k_of(s) + 1024, 64);
      if (tile == 6) Tiles::load<6>(b_of[thread] + k_of(s), 128);
      if (tile == 7) Tiles::load<7>(b_of[thread] + k_of(s) + 64, 128);
      Tiles::pause();
    };
    const auto load_all = [&](int s) {
      load(4, s);
      load(6, s);
      load(5, s);
      load(7, s);
    };
    if (kEarly) load_all(0);
    for (int s = 0; s < steps; ++s) {
      if (!kEarly) load_all(s);
      multiply<0, 4, 6, kEnds>(s == 0, c);
      multiply<2, 5, 6, kEnds>(s == 0, c);
      if (kEarly) load(6, s + 1);
      multiply<3, 5, 7, kEnds>(s == 0, c);
      if (kEarly) load(5, s + 1);
      multiply<1, 4, 7, kEnds>(s == 0, c);
      if (kEarly) load(4, s + 1);
      if (kEarly) load(7, s + 1);
    }
    if (kEnds == Ends::stored) {
      store<0>(c);
      store<1>(c);
      store<2>(c);
      store<3>(c);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (!lab::allow_amx()) return 1;
  for (int t = 0; t < 2; ++t) {
    a_of[t] = lab::operands(kPairs * kPairBytes);
    b_of[t] = lab::operands(kPairBytes);
  }
  std::vector<lab::Variant> variants;
  const auto add = [&](const char* name, auto f, int steps) {
    variants.push_back({name, [=](int thread) { f(thread, steps); }, 0, kSteps * kStepFlops});
  };
  add("blocks have no end", &blocks<Ends::none, false>, 24);
  add("stored at the end, 24 steps", &blocks<Ends::stored, false>, 24);
  add("stored by the next, 24 steps", &blocks<Ends::stored_by_next, false>, 24);
  add("stored at the end, 16 steps", &blocks<Ends::stored, false>, 16);
  add("stored by the next, 16 steps", &blocks<Ends::stored_by_next, false>, 16);
  add("stored at the end, 8 steps", &blocks<Ends::stored, false>, 8);
  add("stored by the next, 8 steps", &blocks<Ends::stored_by_next, false>, 8);
  add("no end, loads early", &blocks<Ends::none, true>, 24);
  add("stored by the next, 24 steps, loads early", &blocks<Ends::stored_by_next, true>, 24);
  lab::run_in_turn(variants, 3000, argc > 1 ? std::atof(argv[1]) : 10, [] { Tiles::configure(16); });
  lab::report(variants);
  return 0;
}
