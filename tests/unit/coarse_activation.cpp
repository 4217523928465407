#include "unit/coarse_activation.h"

#include <array>
#include <utility>

#define HWY_BASELINE_TARGETS HWY_AVX2
#define HWY_DISABLED_TARGETS (~(HWY_AVX2 | HWY_AVX3))
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unit/coarse_activation.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/gate_table-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

using Values = hn::CappedTag<float, 16>;

template <int kIndex>
void All(const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n) {
  const Values d;
  const CoarseActivation<static_cast<Activation>(kIndex), Values> activation(d);
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto g = hn::LoadU(d, gate + i);
    hn::StoreU(
        spec.gated ? activation.gated(d, g, hn::LoadU(d, up + i), spec.alpha, spec.limit) : activation.activate(d, g),
        d, out + i);
  }
}

template <int... kIndex>
void Call(std::integer_sequence<int, kIndex...>, const MlpSpec& spec, const float* gate, const float* up, float* out,
          std::int64_t n) {
  static constexpr std::array kTable{&All<kIndex>...};
  kTable[static_cast<std::size_t>(spec.activation)](spec, gate, up, out, n);
}

void Coarse(const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n) {
  Call(std::make_integer_sequence<int, kActivationCount>(), spec, gate, up, out, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fusedmlp::cpu {

void coarse_activation(Isa isa, const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n) {
  (isa == Isa::avx2 ? N_AVX2::Coarse : N_AVX3::Coarse)(spec, gate, up, out, n);
}

}  // namespace fusedmlp::cpu
#endif
