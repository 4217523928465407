#include "cpu/amx_kernels.h"

#include "cpu/amx_tiles.h"

// One target: a CPU with AMX has AVX-512.
#define HWY_BASELINE_TARGETS HWY_AVX3
#define HWY_DISABLED_TARGETS (~HWY_AVX3)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/amx_kernels.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/amx_block-inl.h"
#include "cpu/bf16_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

struct Instructions : AmxTiles, Bf16Store {
  template <int kRowTiles, class Work>
  static HWY_INLINE void product(const std::byte* a, const AmxSlice& slice, bool backward, Ahead ahead, float* c,
                                 float*& open, Work work) {
    Product<Instructions, kRowTiles>(a, slice, backward, ahead, c, open, work);
  }
  static void close(float*& open) { Close<Instructions>(open); }
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
