#include "cpu/amx_kernels.h"

#include "cpu/amx_tiles.h"

// One target: a CPU with AMX has AVX-512.
#define HWY_BASELINE_TARGETS HWY_AVX3
#define HWY_DISABLED_TARGETS (~HWY_AVX3)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/amx_kernels.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/amx_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

struct Instructions : AmxTiles {
  // Nearest even, NaN stays NaN, subnormals become zero: AVX512_BF16, which every CPU with AMX has.
  static HWY_INLINE void store_bf16(hn::Vec<AmxFloat> v, std::uint16_t* to) {
    __m256i half;
    asm("vcvtneps2bf16 %1, %0" : "=v"(half) : "v"(v.raw));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
  }
};

AmxKernels MakeKernels() {
  return {[](std::int64_t rows) { Instructions::configure(static_cast<int>(rows)); }, &Instructions::release,
          &Hidden<Instructions>, &Down<Instructions>};
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fusedmlp::cpu {

const AmxKernels& amx_kernels() {
  static const AmxKernels table = N_AVX3::MakeKernels();
  return table;
}

}  // namespace fusedmlp::cpu
#endif
