// One row times neighbouring panels, for weights that lie in L1 or L2. Compiled once per instruction set.

#if defined(FUSEDMLP_CPU_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FUSEDMLP_CPU_ROW_INL_H_
#undef FUSEDMLP_CPU_ROW_INL_H_
#else
#define FUSEDMLP_CPU_ROW_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/product.h"
#include "cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

// Sums of the 2 * kLanes columns of a panel; each of two consecutive k has its own.
struct RowSums {
  VF v[2][2];
  HWY_INLINE RowSums() { v[0][0] = v[0][1] = v[1][0] = v[1][1] = hn::Zero(FloatTag()); }
  template <class Panel>
  HWY_INLINE void add(VF x, const Panel& panel, int sub, int set) {
    VF b0, b1;
    panel.load(sub, b0, b1);
    v[set][0] = hn::MulAdd(x, b0, v[set][0]);
    v[set][1] = hn::MulAdd(x, b1, v[set][1]);
  }
  HWY_INLINE void add_to(float* c) const {
    const FloatTag d;
    for (int half = 0; half < 2; ++half, c += kLanes) {
      hn::Store(hn::Add(hn::Add(v[0][half], v[1][half]), hn::Load(d, c)), d, c);
    }
  }
};

// c[2 * kLanes] += a[k] times a panel, and the same for the next panel when kTwo: they share every broadcast of `a`,
// which would else be half of the loads, and are independent sums enough to hide the latency of a multiply-add.
template <bool kTwo, class Panel>
HWY_INLINE void PanelsOfRow(const float* HWY_RESTRICT a, const std::byte* panels, std::size_t stride, std::int64_t k,
                            float* HWY_RESTRICT c) {
  const FloatTag d;
  Panel p0(panels);
  Panel p1(panels + stride);
  for (std::int64_t k0 = 0; k0 < k; k0 += kBlockK) {
    const std::int64_t end = std::min(k0 + kBlockK, k);
    RowSums s0, s1;
    std::int64_t i = k0;
    for (; i + 2 <= end; i += 2) {
#pragma GCC unroll 2
      for (int step = 0; step < 2; ++step) {
        const int sub = step % Panel::kPer;
        if (sub == 0) {
          p0.template fetch<1>();
          if constexpr (kTwo) p1.template fetch<1>();
        }
        const VF x = hn::Set(d, a[i + step]);
        s0.add(x, p0, sub, step);
        if constexpr (kTwo) s1.add(x, p1, sub, step);
        if (sub == Panel::kPer - 1) {
          p0.advance();
          if constexpr (kTwo) p1.advance();
        }
      }
    }
    if (i < end) {  // an odd last k
      const VF x = hn::Set(d, a[i]);
      p0.template fetch<1>();
      s0.add(x, p0, 0, 0);
      if constexpr (kTwo) {
        p1.template fetch<1>();
        s1.add(x, p1, 0, 0);
      }
    }
    s0.add_to(c);
    if constexpr (kTwo) s1.add_to(c + 2 * kLanes);
  }
}

template <class Panel>
void Row(const float* a, const std::byte* panels, std::size_t stride, std::int64_t count, std::int64_t k, float* c) {
  for (; count >= 2; count -= 2, panels += 2 * stride, c += 4 * kLanes)
    PanelsOfRow<true, Panel>(a, panels, stride, k, c);
  if (count > 0) PanelsOfRow<false, Panel>(a, panels, stride, k, c);
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
