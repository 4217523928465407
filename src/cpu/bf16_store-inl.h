// Rounding to bf16 by AVX512-BF16, which every CPU with AMX has too.

#if defined(FUSEDMLP_CPU_BF16_STORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FUSEDMLP_CPU_BF16_STORE_INL_H_
#undef FUSEDMLP_CPU_BF16_STORE_INL_H_
#else
#define FUSEDMLP_CPU_BF16_STORE_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

struct Bf16Store {
  // Nearest even, NaN stays NaN, subnormals become zero.
  static HWY_INLINE void store_bf16(hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::CappedTag<float, 16>> v,
                                    std::uint16_t* to) {
    __m256i half;
    asm("vcvtneps2bf16 %1, %0" : "=v"(half) : "v"(v.raw));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
