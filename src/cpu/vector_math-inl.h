// Activations on fp32 vectors. Compiled once per instruction set (included by isa_kernels.cpp under
// foreach_target); formulas and exactness bounds against src/core/activation.h:
//   |f~(x) - f(x)| <= 2^-23 max(|f(x)|, k |x|), k = 2 (relu, relu2, identity: exact), tested over every bf16 and
//   fp16 value and a dense fp32 sweep.

#if defined(FUSEDMLP_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FUSEDMLP_CPU_VECTOR_MATH_INL_H_
#undef FUSEDMLP_CPU_VECTOR_MATH_INL_H_
#else
#define FUSEDMLP_CPU_VECTOR_MATH_INL_H_
#endif

#include "core/activation.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// e^x to about 2 ulp: 2^n e^r with |r| <= ln(2)/2, e^r = 1 + r + r^2 P(r), P near minimax of degree 4 (relative
// error 3e-9 before rounding). Below -87.3 the result stays at 1e-38, above 88.7 it is inf. NaN: see callers.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  x = hn::Min(hn::Max(x, hn::Set(d, -87.33f)), hn::Set(d, 89.0f));
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);  // ln 2 in two parts (Cody and Waite)
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::Set(d, 1.381459762e-03f);
  p = hn::MulAdd(p, r, hn::Set(d, 8.368716575e-03f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.166838899e-02f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.666652113e-01f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.999999404e-01f));
  p = hn::MulAdd(hn::Mul(p, r), r, r);
  const auto scale = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const V two_n = hn::BitCast(d, scale);
  return hn::MulAdd(p, two_n, two_n);
}

// 1 / v for v >= 1. AVX-512 divides 16 lanes in 16 cycles; an estimate of 14 bits and one step of Newton's method, to
// about 1 ulp, take 5. The step must not meet 1 / inf = 0 with inf.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Reciprocal(D d, V v) {
#if HWY_TARGET <= HWY_AVX3
  const V r = hn::ApproximateReciprocal(v);
  return hn::MulAdd(hn::NegMulAdd(hn::Min(v, hn::Set(d, 3e38f)), r, hn::Set(d, 1.0f)), r, r);
#else
  return hn::Div(hn::Set(d, 1.0f), v);
#endif
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  return Reciprocal(d, hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(x))));
}

// Phi(x), the normal distribution function, from its tail Phi(-|x|) = exp(-x^2/2) t P(t), t = 1/(1 + 0.26|x|);
// coefficients by scripts/fit_normal_tail.py (relative error 2.5e-8 before rounding).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalCdf(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V t = Reciprocal(d, hn::MulAdd(hn::Abs(x), hn::Set(d, 0.26f), one));
  V p = hn::Set(d, 3.050484508e-02f);
  p = hn::MulAdd(p, t, hn::Set(d, -1.528286636e-01f));
  p = hn::MulAdd(p, t, hn::Set(d, 2.514910102e-01f));
  p = hn::MulAdd(p, t, hn::Set(d, -1.509486884e-01f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.609476954e-01f));
  p = hn::MulAdd(p, t, hn::Set(d, 5.102773756e-02f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.030302420e-01f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.030167490e-01f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.037590578e-01f));
  const V tail = hn::Mul(hn::Mul(Exp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f))), t), p);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
}

// act(x) for every activation but swiglu_oai. The products with x keep NaN and give inf * 0 = NaN at -inf, as
// the formulas do; sigmoid alone has no such product and selects NaN back in.
template <Activation kActivation, class D, class V = hn::Vec<D>>
HWY_INLINE V Activate(D d, V x) {
  if constexpr (kActivation == Activation::relu) {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
  } else if constexpr (kActivation == Activation::relu2) {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), hn::Mul(x, x));
  } else if constexpr (kActivation == Activation::gelu) {
    return hn::Mul(x, NormalCdf(d, x));
  } else if constexpr (kActivation == Activation::gelu_tanh) {
    const V cubic = hn::Mul(hn::Mul(x, x), hn::Set(d, static_cast<float>(core::kGeluTanhCubic)));
    const V s = hn::Mul(x, hn::Set(d, static_cast<float>(2 * 0.79788456080286535588)));  // 2 sqrt(2/pi)
    return hn::Mul(x, Sigmoid(d, hn::MulAdd(s, cubic, s)));
  } else if constexpr (kActivation == Activation::quick_gelu) {
    return hn::Mul(x, Sigmoid(d, hn::Mul(x, hn::Set(d, static_cast<float>(core::kQuickGeluSlope)))));
  } else if constexpr (kActivation == Activation::silu) {
    return hn::Mul(x, Sigmoid(d, x));
  } else if constexpr (kActivation == Activation::sigmoid) {
    return hn::IfThenElse(hn::Eq(x, x), Sigmoid(d, x), x);
  } else {
    return x;
  }
}

// Gate and up of swiglu_oai within their limits; selections keep NaN.
template <class D, class V = hn::Vec<D>>
struct OaiOperands {
  HWY_INLINE OaiOperands(D d, V g, V u, float limit) {
    const V high = hn::Set(d, limit);
    const V low = hn::Set(d, -limit);
    gate = hn::IfThenElse(hn::Gt(g, high), high, g);
    up = hn::IfThenElse(hn::Gt(u, high), high, u);
    up = hn::IfThenElse(hn::Lt(up, low), low, up);
  }
  V gate, up;
};

// The hidden of a gated MLP.
template <Activation kActivation, class D, class V = hn::Vec<D>>
HWY_INLINE V Gated(D d, V gate, V up, float alpha, float limit) {
  if constexpr (kActivation == Activation::swiglu_oai) {
    const OaiOperands<D> in(d, gate, up, limit);
    const V s = hn::Mul(in.gate, Sigmoid(d, hn::Mul(in.gate, hn::Set(d, alpha))));
    return hn::MulAdd(s, in.up, s);
  } else {
    return hn::Mul(Activate<kActivation>(d, gate), up);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
