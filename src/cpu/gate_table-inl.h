// The vector form of gate_table.h. Included under a Highway target.

#if defined(FUSEDMLP_CPU_GATE_TABLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FUSEDMLP_CPU_GATE_TABLE_INL_H_
#undef FUSEDMLP_CPU_GATE_TABLE_INL_H_
#else
#define FUSEDMLP_CPU_GATE_TABLE_INL_H_
#endif

#include <type_traits>

#include "cpu/gate_table.h"
#include "cpu/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// A row of coefficients, ready for lookups by the low bits of an integer.
template <class D, class V = hn::Vec<D>>
class Lookup {
 public:
#if HWY_TARGET <= HWY_AVX3
  HWY_INLINE Lookup(D d, const float* row) : low_(hn::Load(d, row)), high_(hn::Load(d, row + 16)) {}
  HWY_INLINE V operator()(D, hn::Vec<hn::RebindToSigned<D>> index) const {
    return V{_mm512_permutex2var_ps(low_.raw, index.raw, high_.raw)};
  }

 private:
  V low_, high_;
#else
  HWY_INLINE Lookup(D, const float* row) : row_(row) {}
  HWY_INLINE V operator()(D d, hn::Vec<hn::RebindToSigned<D>> index) const {
    const hn::RebindToSigned<D> di;
    return hn::GatherIndex(d, row_, hn::And(index, hn::Set(di, kGatePieces - 1)));
  }

 private:
  const float* row_;
#endif
};

// Activations from a table that stays in registers. NaN and infinities as in vector_math-inl.h.
template <Activation kActivation, class D, class V = hn::Vec<D>>
class TableActivation {
 public:
  HWY_INLINE explicit TableActivation(D d) : TableActivation(d, gate_table(kActivation)) {}

  // act(x) for every activation but swiglu_oai.
  HWY_INLINE V activate(D d, V x) const {
    if constexpr (kActivation == Activation::sigmoid) {
      return hn::IfThenElse(hn::Eq(x, x), logistic(d, x), x);
    } else {
      const V magnitude = hn::Abs(x);
      return hn::MulAdd(magnitude, q(d, magnitude), hn::Mul(x, hn::Set(d, 0.5f)));
    }
  }

  HWY_INLINE V gated(D d, V gate, V up, float alpha, float limit) const {
    if constexpr (kActivation == Activation::swiglu_oai) {
      const OaiOperands<D> in(d, gate, up, limit);
      const V s = hn::Mul(in.gate, logistic(d, hn::Mul(in.gate, hn::Set(d, alpha))));
      return hn::MulAdd(s, in.up, s);
    } else {
      return hn::Mul(activate(d, gate), up);
    }
  }

 private:
  HWY_INLINE TableActivation(D d, const GateTable& table)
      : scale_(hn::Set(d, table.scale)),
        limit_(hn::Set(d, table.limit)),
        c_{{d, table.c[0]}, {d, table.c[1]}, {d, table.c[2]}, {d, table.c[3]}} {}

  HWY_INLINE V logistic(D d, V x) const { return hn::Add(hn::Set(d, 0.5f), hn::CopySign(q(d, hn::Abs(x)), x)); }

  // The minimum of NaN and a number is the number, so that the index is always one of the table's.
  HWY_INLINE V q(D d, V magnitude) const {
    const V a = hn::Min(magnitude, limit_);
    const V rounded = hn::MulAdd(a, scale_, hn::Set(d, 8388608.0f));  // 2^23: the integer is in the low bits
    const auto index = hn::BitCast(hn::RebindToSigned<D>(), rounded);
    V sum = c_[3](d, index);
    for (int i = kGateTerms - 2; i >= 0; --i) sum = hn::MulAdd(sum, a, c_[i](d, index));
    return sum;
  }

  V scale_, limit_;
  Lookup<D> c_[kGateTerms];
};

// The cheap ones as they are.
template <Activation kActivation, class D, class V = hn::Vec<D>>
class PlainActivation {
 public:
  HWY_INLINE explicit PlainActivation(D) {}
  HWY_INLINE V activate(D d, V x) const { return Activate<kActivation>(d, x); }
  HWY_INLINE V gated(D d, V gate, V up, float alpha, float limit) const {
    return Gated<kActivation>(d, gate, up, alpha, limit);
  }
};

constexpr bool from_table(Activation activation) {
  return activation != Activation::identity && activation != Activation::relu && activation != Activation::relu2;
}

// To the precision of bf16 storage.
template <Activation kActivation, class D>
using CoarseActivation =
    std::conditional_t<from_table(kActivation), TableActivation<kActivation, D>, PlainActivation<kActivation, D>>;

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
