// What pauses between tile instructions do, on two pinned threads: 2 x 2 products of operands in L1, variants in
// turn. On a core whose sibling thread is busy the order and the pauses decide; the two chains of latency say whether
// the clock is what changed.
//   g++ -std=c++20 -O2 -march=sapphirerapids -Isrc -static -pthread lab/amx/pauses.cpp -o pauses
//   taskset -c 0,1 ./pauses
#include "two_threads.h"

#include "cpu/amx_tiles.h"

namespace {

using Tiles = fusedmlp::cpu::AmxTiles;

constexpr int kSteps = 4;  // 8 KiB of each operand
constexpr int kRepeats = 1000;
constexpr double kStepFlops = 4.0 * 2 * 16 * 16 * 32;

alignas(4096) std::byte operands[2][2][kSteps * 2048];

template <int kNops>
void pause() {
  if constexpr (kNops == 8) asm volatile(".rept 8\n\tnop\n\t.endr");
  if constexpr (kNops == 16) asm volatile(".rept 16\n\tnop\n\t.endr");
  if constexpr (kNops == 32) asm volatile(".rept 32\n\tnop\n\t.endr");
}

enum class Order { rows, columns, ring, no_loads, one_sum, no_products };

// kAfterLoad and kAfter: nops after each load and each product.
template <Order kOrder, int kAfterLoad, int kAfter>
void block(const std::byte* a, const std::byte* b) {
  Tiles::zero<0>();
  Tiles::zero<1>();
  Tiles::zero<2>();
  Tiles::zero<3>();
  for (int i = 0; i < kSteps; ++i, a += 2048, b += 2048) {
    if constexpr (kOrder != Order::no_loads && kOrder != Order::one_sum) {
      Tiles::load_once<4>(a, 64);
      pause<kAfterLoad>();
      Tiles::load<6>(b, 128);
      pause<kAfterLoad>();
      Tiles::load_once<5>(a + 1024, 64);
      pause<kAfterLoad>();
      Tiles::load<7>(b + 64, 128);
      pause<kAfterLoad>();
    }
    if constexpr (kOrder == Order::no_products) continue;
    constexpr bool kOne = kOrder == Order::one_sum;
    Tiles::multiply<0, 4, 6>();
    pause<kAfter>();
    if constexpr (kOrder == Order::rows || kOrder == Order::no_loads) {
      Tiles::multiply<1, 4, 7>();
      pause<kAfter>();
    }
    Tiles::multiply<kOne ? 0 : 2, 5, 6>();
    pause<kAfter>();
    if constexpr (kOrder == Order::columns) {
      Tiles::multiply<1, 4, 7>();
      pause<kAfter>();
    }
    Tiles::multiply<kOne ? 0 : 3, 5, 7>();
    pause<kAfter>();
    if constexpr (kOrder == Order::ring || kOne) {
      Tiles::multiply<kOne ? 0 : 1, 4, 7>();
      pause<kAfter>();
    }
  }
}

template <Order kOrder, int kAfterLoad, int kAfter>
lab::Variant products(const char* name) {
  return {name,
          [](int thread) {
            for (int i = 0; i < kRepeats; ++i)
              block<kOrder, kAfterLoad, kAfter>(operands[thread][0], operands[thread][1]);
          },
          0, kOrder == Order::no_products ? 0 : kRepeats * kSteps * kStepFlops};
}

void chain_of_multiplications(int) {
  std::uint64_t x = 3;
  for (int i = 0; i < 40000; ++i) asm volatile("imul %0, %0" : "+r"(x));
}

}  // namespace

int main() {
  if (!lab::allow_amx()) return 1;
  lab::fill(&operands[0][0][0], sizeof operands);
  std::vector<lab::Variant> variants = {
      {"chain of multiplications", &chain_of_multiplications},
      products<Order::no_loads, 0, 0>("products alone, four sums"),
      products<Order::no_loads, 0, 16>("products alone, 16 nops"),
      products<Order::one_sum, 0, 0>("products alone, one sum"),
      products<Order::no_products, 0, 0>("loads alone"),
      products<Order::rows, 0, 0>("row by row"),
      products<Order::rows, 0, 16>("row by row, 16 nops"),
      products<Order::columns, 0, 0>("column by column"),
      products<Order::columns, 0, 16>("column by column, 16 nops"),
      products<Order::columns, 16, 16>("column by column, 16 nops, after loads too"),
      products<Order::ring, 0, 0>("ring"),
      products<Order::ring, 0, 16>("ring, 16 nops"),
      products<Order::ring, 8, 8>("ring, 8 nops, after loads too"),
      products<Order::ring, 16, 16>("ring, 16 nops, after loads too"),
      products<Order::ring, 32, 32>("ring, 32 nops, after loads too"),
  };
  lab::run_in_turn(variants, 300, 60, [] { Tiles::configure(16); });
  lab::report(variants);
  return 0;
}
