#include "unit/amx_model.h"

#include <cstdlib>
#include <cstring>

#include "core/numeric.h"

#define HWY_BASELINE_TARGETS HWY_AVX2
#define HWY_DISABLED_TARGETS (~HWY_AVX2)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unit/amx_model.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/amx_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

// Intel SDM, volume 2: TDPBF16PS. The order of the two products of a pair is the instruction's; subnormals are not
// flushed, which no test here depends on.
struct Model {
  struct Registers {
    bool ready = false;
    int rows = 0;  // of products and of x
    alignas(64) std::byte tile[8][16][64];
  };
  static Registers& registers() {
    thread_local Registers all;
    return all;
  }
  static int rows(int tile) { return tile < 6 ? registers().rows : 16; }
  static void require(bool condition) {
    if (!condition) std::abort();
  }

  template <int kRowTiles, class Work>
  static HWY_INLINE void product(const std::byte* a, const AmxSlice& slice, bool backward, Ahead ahead, float* c,
                                 float*& open, Work work) {
    Product<Model, kRowTiles>(a, slice, backward, ahead, c, open, work);
  }
  static void close(float*& open) { Close<Model>(open); }
  static void configure(std::int64_t wanted) {
    require(!registers().ready && wanted >= 1 && wanted <= 16);
    std::memset(registers().tile, 0, sizeof registers().tile);
    registers().rows = static_cast<int>(wanted);
    registers().ready = true;
  }
  static void release() {
    require(registers().ready);
    registers().ready = false;
  }
  template <int kTile>
  static void zero() {
    require(registers().ready);
    std::memset(registers().tile[kTile], 0, sizeof registers().tile[kTile]);
  }
  template <int kTile>
  static void load(const std::byte* from, std::int64_t stride) {
    require(registers().ready);
    for (int r = 0; r < rows(kTile); ++r) std::memcpy(registers().tile[kTile][r], from + r * stride, 64);
  }
  template <int kTile>
  static void load_once(const std::byte* from, std::int64_t stride) {
    load<kTile>(from, stride);
  }
  template <int kTile>
  static void store(float* to, std::int64_t stride) {
    require(registers().ready);
    for (int r = 0; r < rows(kTile); ++r) {
      std::memcpy(reinterpret_cast<std::byte*>(to) + r * stride, registers().tile[kTile][r], 64);
    }
  }
  template <int kC, int kA, int kB>
  static void multiply() {
    require(registers().ready);
    auto& tile = registers().tile;
    for (int m = 0; m < rows(kC); ++m) {
      float c[16];
      std::uint16_t a[32], b[32];
      std::memcpy(c, tile[kC][m], sizeof c);
      std::memcpy(a, tile[kA][m], sizeof a);
      for (int k = 0; k < 16; ++k) {
        std::memcpy(b, tile[kB][k], sizeof b);
        for (int n = 0; n < 16; ++n) {
          c[n] += core::bf16_to_float(a[2 * k]) * core::bf16_to_float(b[2 * n]);
          c[n] += core::bf16_to_float(a[2 * k + 1]) * core::bf16_to_float(b[2 * n + 1]);
        }
      }
      std::memcpy(tile[kC][m], c, sizeof c);
    }
  }
  static void prefetch(const std::byte*) {}
  static void prefetch_near(const std::byte*) {}
  static void pause() {}
  static HWY_INLINE void store_bf16(hn::Vec<AmxFloat> v, std::uint16_t* to) {
    const AmxFloat d;
    alignas(64) float values[16];
    hn::Store(v, d, values);
    for (std::size_t i = 0; i < hn::Lanes(d); ++i) to[i] = core::float_to_bf16(values[i]);
  }
};

AmxKernels MakeModel() { return {&Model::configure, &Model::release, &Hidden<Model>, &Down<Model>}; }

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fusedmlp::cpu {

const AmxKernels& modelled_amx_kernels() {
  static const AmxKernels table = N_AVX2::MakeModel();
  return table;
}

}  // namespace fusedmlp::cpu
#endif
