// Drawing weights in from L3 beside tile loads and products, one core, 2 x 2 tiles, panels of 24 steps: who waits for
// whom. Variants in turn, the tile rate measured around each.
//   g++ -std=c++20 -O2 -march=sapphirerapids -Isrc -static -pthread lab/amx/overlap.cpp -o overlap
//   taskset -c 2 ./overlap [seconds]
#include <string>

#include "two_threads.h"

#include "cpu/amx_tiles.h"

namespace {

using Tiles = fusedmlp::cpu::AmxTiles;

constexpr std::int64_t kSteps = 24, kPanelBytes = kSteps * 2048;
constexpr std::int64_t kPanels = 340;  // 16 MB, more than L2
constexpr std::int64_t kCount = 16;    // panels of a sample

std::byte *a_of, *w_of, *copy_of;

enum class Loads { none, tiles, kept, vectors };  // kept: rows without the T1 hint, too
enum class From { l1, l2, stream };               // rows from L1 or L2; stream: rows from L2, weights as they come
enum class Draw { none, bursts, spread, near, touch2, touch4, touch8, clump, resident, movsb };

template <int kTile, Loads kLoads>
void load(const std::byte* at, std::int64_t stride) {
  if constexpr (kLoads == Loads::tiles && kTile < 6) {
    Tiles::load_once<kTile>(at, stride);
  } else if constexpr (kLoads == Loads::tiles || kLoads == Loads::kept) {
    Tiles::load<kTile>(at, stride);
  } else if constexpr (kLoads == Loads::vectors) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) asm volatile("vmovdqa64 %0, %%zmm0" ::"m"(*(at + i * stride)) : "xmm0");
  }
}

template <int kPairs, Loads kLoads, From kFrom, Draw kDraw, bool kMultiply, bool kPauses>
void products(std::int64_t panel0) {
  constexpr int kLines = 32 / kPairs;  // a step
  constexpr int kApart = kDraw == Draw::touch2 ? 2 : kDraw == Draw::touch4 ? 4 : kDraw == Draw::touch8 ? 8 : 1;
  bool back = false;
  for (std::int64_t p = 0; p < kCount; ++p) {
    const std::byte* panel = w_of + (panel0 + p) * kPanelBytes;
    const std::byte* ahead = panel + kPanelBytes;
    if (kDraw == Draw::resident) ahead = copy_of + p % 8 * kPanelBytes;
    if (kFrom == From::l1) panel = copy_of;
    if (kFrom == From::l2 || (kFrom == From::stream && kDraw == Draw::movsb)) panel = copy_of + p % 2 * kPanelBytes;
    std::byte* to = copy_of + (p + 1) % 2 * kPanelBytes;
    for (int pair = 0; pair < kPairs; ++pair, back = !back) {
      for (std::int64_t s = 0; s < kSteps; ++s) {
        const std::int64_t k = back ? kSteps - 1 - s : s;
        const std::byte* a = a_of + (kFrom == From::l1 ? s % 4 : pair * kSteps + k) * 2048;
        const std::byte* b = panel + (kFrom == From::l1 ? s % 4 : k) * 2048;
        const auto slot = [&]<int kSlot>() __attribute__((always_inline)) {
          if constexpr (kPauses) Tiles::pause();
          if constexpr (kDraw == Draw::bursts) {
            if (kSlot == 4 || kSlot == 6) {
#pragma GCC unroll 16
              for (int i = 0; i < kLines / 2; ++i) Tiles::prefetch(ahead + i * 64);
              ahead += kLines / 2 * 64;
            }
          } else if constexpr (kDraw == Draw::clump) {
            if (kSlot == 4 && s % 4 == 0) {
#pragma GCC unroll 64
              for (int i = 0; i < 4 * kLines; ++i) Tiles::prefetch(ahead + i * 64);
              ahead += 4 * kLines * 64;
            }
          } else if constexpr (kDraw == Draw::movsb) {
            if (kSlot == 7) {
              std::size_t count = kLines * 64;
              const std::byte* from = ahead;
              asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
              ahead = from;
            }
          } else if constexpr (kDraw != Draw::none) {
#pragma GCC unroll 4
            for (int i = 0; i < kLines / 8; ++i) {
              if ((kSlot * kLines / 8 + i) % kApart != 0) continue;
              const std::byte* at = ahead + (kSlot * kLines / 8 + i) * 64;
              if (kDraw == Draw::near)
                Tiles::prefetch_near(at);
              else
                Tiles::prefetch(at);
            }
            if (kSlot == 7) ahead += kLines * 64;
          }
        };
        load<4, kLoads>(a, 64);
        slot.template operator()<0>();
        load<6, kLoads>(b, 128);
        slot.template operator()<1>();
        load<5, kLoads>(a + 1024, 64);
        slot.template operator()<2>();
        load<7, kLoads>(b + 64, 128);
        slot.template operator()<3>();
        if constexpr (kMultiply) Tiles::multiply<0, 4, 6>();
        slot.template operator()<4>();
        if constexpr (kMultiply) Tiles::multiply<2, 5, 6>();
        slot.template operator()<5>();
        if constexpr (kMultiply) Tiles::multiply<3, 5, 7>();
        slot.template operator()<6>();
        if constexpr (kMultiply) Tiles::multiply<1, 4, 7>();
        slot.template operator()<7>();
      }
    }
  }
}

// Weights copied in by `rep movsb` alone, or read by vectors.
void copy_alone(std::int64_t panel0) {
  for (std::int64_t p = 0; p < kCount; ++p) {
    std::size_t count = kPanelBytes;
    const std::byte* from = w_of + (panel0 + p + 1) * kPanelBytes;
    std::byte* to = copy_of + p % 2 * kPanelBytes;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  }
}

void read_alone(std::int64_t panel0) {
  const std::byte* at = w_of + (panel0 + 1) * kPanelBytes;
  for (std::int64_t i = 0; i < kCount * kPanelBytes; i += 64) {
    asm volatile("vmovdqa64 %0, %%zmm0" ::"m"(*(at + i)) : "xmm0");
  }
}

struct Variant {
  std::string name;
  void (*run)(std::int64_t);
  std::vector<double> alone = {}, busy = {}, all = {};
};

std::vector<Variant> variants;

template <int kPairs, Loads kLoads, From kFrom, Draw kDraw, bool kMultiply, bool kPauses = true>
void add(const char* name) {
  variants.push_back(
      {std::to_string(kPairs * 32) + " rows: " + name, &products<kPairs, kLoads, kFrom, kDraw, kMultiply, kPauses>});
}

template <int kPairs>
void add_all() {
  using enum Draw;
  constexpr auto kNone = Loads::none, kTiles = Loads::tiles, kKept = Loads::kept, kVectors = Loads::vectors;
  constexpr auto kL1 = From::l1, kL2 = From::l2, kL3 = From::stream;
  add<kPairs, kNone, kL1, none, true>("products");
  add<kPairs, kNone, kL1, spread, true>("products, drawn in");
  add<kPairs, kVectors, kL1, none, true>("vector loads from L1");
  add<kPairs, kVectors, kL1, spread, true>("vector loads from L1, drawn in");
  add<kPairs, kVectors, kL2, none, true>("vector loads from L2");
  add<kPairs, kVectors, kL2, spread, true>("vector loads from L2, drawn in");
  add<kPairs, kKept, kL1, none, true>("tiles from L1, no T1 hint");
  add<kPairs, kKept, kL1, spread, true>("tiles from L1, no T1 hint, drawn in");
  add<kPairs, kTiles, kL1, none, true>("tiles from L1");
  add<kPairs, kTiles, kL1, spread, true>("tiles from L1, drawn in");
  add<kPairs, kTiles, kL1, resident, true>("tiles from L1, lines of L2 drawn in");
  add<kPairs, kTiles, kL1, touch8, true>("tiles from L1, a line in 8");
  add<kPairs, kTiles, kL2, none, true>("tiles from L2");
  add<kPairs, kTiles, kL2, spread, true>("tiles from L2, drawn in");
  add<kPairs, kTiles, kL3, none, true>("from L3, not drawn in");
  add<kPairs, kTiles, kL3, bursts, true>("from L3, twice a step (as it is)");
  add<kPairs, kTiles, kL3, spread, true>("from L3, after each instruction");
  add<kPairs, kTiles, kL3, spread, true, false>("from L3, after each instruction, no pauses");
  add<kPairs, kTiles, kL3, clump, true>("from L3, every fourth step");
  add<kPairs, kTiles, kL3, touch2, true>("from L3, a line in 2");
  add<kPairs, kTiles, kL3, touch4, true>("from L3, a line in 4");
  add<kPairs, kTiles, kL3, touch8, true>("from L3, a line in 8");
  add<kPairs, kTiles, kL3, near, true>("from L3, by T0");
  add<kPairs, kTiles, kL3, movsb, true>("from L3, copied in by rep movsb");
}

alignas(4096) std::byte some_tiles[4096];

double since(lab::Clock::time_point start) {
  return std::chrono::duration<double>(lab::Clock::now() - start).count() * 1e6;
}

double reference() {
  Tiles::load<4>(some_tiles, 64);
  Tiles::load<5>(some_tiles + 1024, 64);
  Tiles::load<6>(some_tiles + 2048, 64);
  Tiles::load<7>(some_tiles + 3072, 64);
  const auto start = lab::Clock::now();
  for (int i = 0; i < 800; ++i) {
    Tiles::multiply<0, 4, 6>();
    Tiles::multiply<1, 4, 7>();
    Tiles::multiply<2, 5, 6>();
    Tiles::multiply<3, 5, 7>();
  }
  return since(start);
}

}  // namespace

int main(int argc, char** argv) {
  if (!lab::allow_amx()) return 1;
  lab::pin(0);
  lab::fill(some_tiles, sizeof some_tiles);
  a_of = lab::operands(4 * kPanelBytes);
  w_of = lab::operands((kPanels + 2) * kPanelBytes);
  copy_of = lab::operands(8 * kPanelBytes);
  Tiles::configure(16);
  variants.push_back({"reading by vectors", &read_alone});
  variants.push_back({"copying by rep movsb", &copy_alone});
  variants.push_back({"drawing in", &products<1, Loads::none, From::l1, Draw::bursts, false, false>});
  add_all<2>();
  add_all<4>();
  struct Sample {
    std::size_t variant;
    double before, us, after;
  };
  std::vector<Sample> samples;
  double best = 1e9;
  std::int64_t panel = 0;
  const auto begin = lab::Clock::now();
  while (since(begin) < (argc > 1 ? std::atof(argv[1]) : 10) * 1e6) {
    for (std::size_t i = 0; i < variants.size(); ++i) {
      if (panel + 2 * kCount + 1 > kPanels) panel = 0;
      // What lies in the caches while panels are multiplied: rows, the copies, and the first panel.
      for (std::int64_t j = 0; j < 4 * kPanelBytes; j += 64) Tiles::prefetch_near(a_of + j);
      for (std::int64_t j = 0; j < 8 * kPanelBytes; j += 64) Tiles::prefetch_near(copy_of + j);
      for (std::int64_t j = 0; j < kPanelBytes; j += 64) Tiles::prefetch_near(w_of + panel * kPanelBytes + j);
      const double before = reference();
      const auto start = lab::Clock::now();
      variants[i].run(panel);
      const double us = since(start), after = reference();
      panel += kCount;
      best = std::min({best, before, after});
      samples.push_back({i, before, us, after});
    }
  }
  for (const Sample& s : samples) {
    Variant& v = variants[s.variant];
    v.all.push_back(s.us);
    if (s.before < 1.25 * best && s.after < 1.25 * best) v.alone.push_back(s.us);
    if (s.before > 1.6 * best && s.after > 1.6 * best) v.busy.push_back(s.us);
  }
  std::printf("products alone %.2f TFLOP/s; us for %.1f MB of weights\n%-56s %7s %8s %8s %6s | %8s %8s %6s\n",
              800 * 4 * 16384 / best * 1e-6, kCount * kPanelBytes * 1e-6, "", "best", "alone q", "alone m", "",
              "busy q", "busy m", "");
  for (const Variant& v : variants) {
    std::printf("%-56s %7.1f", v.name.c_str(), lab::percentile(v.all, 0));
    for (const auto* us : {&v.alone, &v.busy}) {
      if (us->empty())
        std::printf("        -        -   (  0) |");
      else
        std::printf(" %8.1f %8.1f (%4zu) |", lab::percentile(*us, 0.25), lab::percentile(*us, 0.5), us->size());
    }
    std::printf("\n");
  }
  return 0;
}
