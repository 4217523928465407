// The tile instructions of AMX as inline assembly: it needs no compiler flags, so nothing else of a file can be
// compiled for AMX by accident, and each says that it touches memory, which gcc 12's intrinsics do not.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedmlp::cpu {

// The operand of LDTILECFG (Intel SDM, volume 1, 18.2), palette 1: rows and bytes a row of each tile register.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// Registers 0-3 are products (2 x 2 tiles), 4 and 5 rows of x, 6 and 7 weights.
struct AmxTiles {
  static void configure(int rows) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = 64;
      config.rows[i] = static_cast<std::uint8_t>(i < 6 ? rows : 16);
    }
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { asm volatile("tilerelease" ::: "memory"); }

  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  static void load(const std::byte* from, std::int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(stride) : "memory");
  }
  // For what is not read again before it has left L1.
  template <int kTile>
  static void load_once(const std::byte* from, std::int64_t stride) {
    asm volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(stride) : "memory");
  }
  template <int kTile>
  static void store(float* to, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to), "r"(stride) : "memory");
  }
  // c += a b, sums in fp32; subnormal inputs and sums count as zero.
  template <int kC, int kA, int kB>
  static void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }

  // Between products. On a core whose sibling thread is busy, products issued as soon as they can be take up to twice
  // as long as with other instructions between them; alone on a core it makes no difference.
  static void pause() { asm volatile(".rept 16\n\tnop\n\t.endr" ::: "memory"); }

  // Into L2. In assembly: gcc 12 takes a function of nothing but __builtin_prefetch for one without effect and leaves
  // its calls out where it cannot inline them at once, as from a function of another target.
  static void prefetch(const std::byte* at) { asm volatile("prefetcht2 %0" ::"m"(*at)); }
  static void prefetch_near(const std::byte* at) { asm volatile("prefetcht0 %0" ::"m"(*at)); }  // into L1
};

}  // namespace fusedmlp::cpu
