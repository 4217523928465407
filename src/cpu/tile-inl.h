// The register tile: rows x (2 * lanes) of C, the inner loop of everything. Compiled once per instruction set.

#if defined(FUSEDMLP_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FUSEDMLP_CPU_TILE_INL_H_
#undef FUSEDMLP_CPU_TILE_INL_H_
#else
#define FUSEDMLP_CPU_TILE_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 32 vector registers hold 14 x 2 accumulators, 16 hold 6 x 2; either leaves room for the panel and one
// broadcast.
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kTileRows = 14;
inline constexpr int kLanes = 16;
#else
inline constexpr int kTileRows = 6;
inline constexpr int kLanes = 8;
#endif
using FloatTag = hn::CappedTag<float, kLanes>;
using VF = hn::Vec<FloatTag>;

// Panel readers: `fetch` reads what holds the next kPer k, kBytes for every column, `load(sub)` gives the two vectors
// of one of them as fp32, `advance` moves on by kPer k.
struct PanelF32 {
  static constexpr int kPer = 1;
  static constexpr int kBytes = 4;
  const float* p;
  explicit PanelF32(const void* panel) : p(static_cast<const float*>(panel)) {}
  template <int>
  HWY_INLINE void fetch() {}
  HWY_INLINE void load(int, VF& b0, VF& b1) const {
    const FloatTag d;
    b0 = hn::Load(d, p);
    b1 = hn::Load(d, p + kLanes);
  }
  HWY_INLINE void advance() { p += 2 * kLanes; }
};

struct PanelF16 {
  static constexpr int kPer = 1;
  static constexpr int kBytes = 2;
  const hwy::float16_t* p;
  explicit PanelF16(const void* panel) : p(static_cast<const hwy::float16_t*>(panel)) {}
  template <int>
  HWY_INLINE void fetch() {}
  HWY_INLINE void load(int, VF& b0, VF& b1) const {
    const FloatTag d;
    const hn::Rebind<hwy::float16_t, FloatTag> dh;
    b0 = hn::PromoteTo(d, hn::Load(dh, p));
    b1 = hn::PromoteTo(d, hn::Load(dh, p + kLanes));
  }
  HWY_INLINE void advance() { p += 2 * kLanes; }
};

struct PanelBF16 {
  static constexpr int kPer = 2;
  static constexpr int kBytes = 4;
  using VU = hn::Vec<hn::RebindToUnsigned<FloatTag>>;
  const std::uint32_t* p;
  VU w0, w1;
  explicit PanelBF16(const void* panel) : p(static_cast<const std::uint32_t*>(panel)) {}
  // Both k of a pair come from one load. Left to itself the compiler loads anew for the second, which a tile of few
  // rows, bound by its loads, pays for; one of many rows has no registers to spare.
  template <int kRows>
  HWY_INLINE void fetch() {
    const hn::RebindToUnsigned<FloatTag> du;
    w0 = hn::Load(du, p);
    w1 = hn::Load(du, p + kLanes);
    if constexpr (kRows <= 2) __asm__("" : "+v"(w0.raw), "+v"(w1.raw));
  }
  HWY_INLINE void load(int sub, VF& b0, VF& b1) const {
    const FloatTag d;
    const hn::RebindToUnsigned<FloatTag> du;
    if (sub == 0) {
      b0 = hn::BitCast(d, hn::ShiftLeft<16>(w0));
      b1 = hn::BitCast(d, hn::ShiftLeft<16>(w1));
    } else {
      const auto high = hn::Set(du, 0xffff0000u);
      b0 = hn::BitCast(d, hn::And(w0, high));
      b1 = hn::BitCast(d, hn::And(w1, high));
    }
  }
  HWY_INLINE void advance() { p += 2 * kLanes; }
};

// c[kRows, 2 * kLanes] (+)= a[kRows, k] panel. Few rows leave too few independent sums to hide the latency of a
// multiply-add, so there k is spread over several sets of accumulators, added in a fixed order at the end. What c
// holds is added last: sums of one pass meet as sums, which keeps chains short.
template <int kRows, class Panel>
HWY_NOINLINE void Tile(const float* HWY_RESTRICT a, std::int64_t lda, const void* panel, std::int64_t k,
                       float* HWY_RESTRICT c, bool accumulate, const std::byte* ahead, std::int64_t ahead_step) {
  constexpr int kSets = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  constexpr int kUnits = kSets > Panel::kPer ? kSets / Panel::kPer : 1;
  constexpr int kStep = kUnits * Panel::kPer;
  constexpr int kStepBytes = 2 * kLanes * Panel::kBytes;
  const FloatTag d;
  VF acc[kSets][kRows][2];
#pragma GCC unroll 4
  for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) acc[s][r][0] = acc[s][r][1] = hn::Zero(d);
  }
  Panel b(panel);
  std::int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) {
      b.template fetch<kRows>();
#pragma GCC unroll 2
      for (int sub = 0; sub < Panel::kPer; ++sub) {
        VF b0, b1;
        b.load(sub, b0, b1);
        const int step = u * Panel::kPer + sub;
        const int set = step % kSets;
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const VF x = hn::Set(d, a[r * lda + i + step]);
          acc[set][r][0] = hn::MulAdd(x, b0, acc[set][r][0]);
          acc[set][r][1] = hn::MulAdd(x, b1, acc[set][r][1]);
        }
      }
      b.advance();
      if constexpr (kRows < kTileRows / 2) {
        for (int line = 0; line < kStepBytes; line += 64) __builtin_prefetch(ahead + line, 0, 3);
      } else {
        __builtin_prefetch(ahead, 0, 2);
      }
      ahead += ahead_step;
    }
  }
  for (; i < k; ++i) {
    const int sub = static_cast<int>(i % Panel::kPer);
    VF b0, b1;
    b.template fetch<kRows>();
    b.load(sub, b0, b1);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const VF x = hn::Set(d, a[r * lda + i]);
      acc[0][r][0] = hn::MulAdd(x, b0, acc[0][r][0]);
      acc[0][r][1] = hn::MulAdd(x, b1, acc[0][r][1]);
    }
    if (sub == Panel::kPer - 1) b.advance();
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int s = 1; s < kSets; ++s) {
      acc[0][r][0] = hn::Add(acc[0][r][0], acc[s][r][0]);
      acc[0][r][1] = hn::Add(acc[0][r][1], acc[s][r][1]);
    }
    if (accumulate) {
      acc[0][r][0] = hn::Add(acc[0][r][0], hn::Load(d, c + r * 2 * kLanes));
      acc[0][r][1] = hn::Add(acc[0][r][1], hn::Load(d, c + r * 2 * kLanes + kLanes));
    }
    hn::Store(acc[0][r][0], d, c + r * 2 * kLanes);
    hn::Store(acc[0][r][1], d, c + r * 2 * kLanes + kLanes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
