// The AMX drivers' blocks by VDPBF16PS, for CPUs that have AVX512-BF16 and multiply pairs of bf16 at a higher rate
// than fp32 (AMD from Zen 4 on), but no AMX. In inline assembly, which Highway and compilers without the flag take
// too.
#define HWY_BASELINE_TARGETS HWY_AVX3
#define HWY_DISABLED_TARGETS (~HWY_AVX3)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dot_kernels.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/amx_block-inl.h"
#include "cpu/bf16_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

using Dot = hn::Vec<AmxFloat>;

// c + a0 b0 + a1 b1 in every lane; subnormal inputs and sums count as zero.
HWY_INLINE Dot MultiplyPairs(Dot c, Dot a, Dot b) {
  auto sum = c.raw;  // by value: an operand that is part of an object would keep that in memory
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a.raw), "v"(b.raw));
  return Dot{sum};
}

// c[kRows, 32] = rows of a strip, 64 bytes apart at each step, times a slice.
template <int kRows>
HWY_INLINE void RowsTimesSlice(const std::byte* a, std::int64_t step_bytes, const AmxSlice& slice, float* c) {
  constexpr std::int64_t kPairBytes = 4;
  constexpr std::int64_t kPanelRow = kPanelWidth * kPairBytes;  // a pair of k of 32 columns
  const AmxFloat d;
  Dot sum[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(d);
  for (std::int64_t s = 0; s < slice.steps; ++s, a += step_bytes) {
    const std::byte* b = s == slice.steps - 1 ? slice.last : slice.weights + s * kStepBytes;
    for (std::int64_t pair = 0; pair < kTileK / 2; ++pair) {
      const auto* columns = reinterpret_cast<const float*>(b + pair * kPanelRow);
      const Dot b0 = hn::Load(d, columns);
      const Dot b1 = hn::Load(d, columns + kHalf);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const Dot x = hn::Set(d, *reinterpret_cast<const float*>(a + r * 2 * kTileK + pair * kPairBytes));
        sum[r][0] = MultiplyPairs(sum[r][0], x, b0);
        sum[r][1] = MultiplyPairs(sum[r][1], x, b1);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    hn::Store(sum[r][0], d, c + r * kPanelWidth);
    hn::Store(sum[r][1], d, c + r * kPanelWidth + kHalf);
  }
}

struct DotProducts : Bf16Store {
  static void close(float*&) {}

  // 22 registers of sums at most, 2 of weights and one of x. The work is done first: its operands lie in c.
  template <int kRowTiles, class Work>
  static HWY_INLINE void product(const std::byte* a, const AmxSlice& slice, bool, Ahead ahead, float* c, float*&,
                                 Work work) {
    for (std::int64_t s = 0; s < slice.steps; ++s) work.step();
    for (std::int64_t i = 0; i < ahead.bytes * slice.steps; i += kLineBytes) __builtin_prefetch(ahead.at + i, 0, 2);
    constexpr std::int64_t kStep = kRowTiles * kTileBytes;
    const auto rows = [&]<int kFirst, int kRows>() HWY_ATTR {
      RowsTimesSlice<kRows>(a + kFirst * 2 * kTileK, kStep, slice, c + kFirst * kPanelWidth);
    };
    if constexpr (kRowTiles == 2) {
      rows.template operator()<0, 11>();
      rows.template operator()<11, 11>();
      rows.template operator()<22, 10>();
    } else {
      rows.template operator()<0, 8>();
      rows.template operator()<8, 8>();
    }
  }
};

AmxKernels MakeDotKernels() {
  return {[](std::int64_t) {}, [] {}, &Hidden<DotProducts>, &Down<DotProducts>};
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fusedmlp::cpu {

const AmxKernels& dot_kernels() {
  static const AmxKernels table = N_AVX3::MakeDotKernels();
  return table;
}

}  // namespace fusedmlp::cpu
#endif
