#include "cuda/narrow/activation.h"

#include <cstddef>
#include <type_traits>

#include "core/activation.h"

namespace fusedmlp::cuda::narrow {
namespace {

constexpr double kMinusLog2E = -1.4426950408889634;

// Coefficients of q(a) = log2 s(-a) by scripts/fit_sigmoid_tail.py. Beside each the largest error of x s(x), relative
// to max(|x s(x)|, 2^-14 |x|), for kGeluTanhF16 2^-11: below half of eps, and at the tails below fp32's share of the
// error bounds.
constexpr double kGeluBf16[] = {-1.0048988546386677, -1.1051783907025188, -0.5279969395792078,
                                -0.01691033979751277};  // 3.4e-3
constexpr double kGeluF16[] = {-1.0000828067054328,  -1.149709192917762,    -0.462945313287571,
                               -0.04912661312974888, 0.0060975623765311335, -0.0003488924554524082};  // 5.7e-5
constexpr double kGeluTanhBf16[] = {-1.0013947717892124, -1.1288131597880622, -0.5158367423936342,
                                    -0.0027281943229663617, -0.007222820587467164};  // 9.7e-4
constexpr double kGeluTanhF16[] = {-1.0004940500839974,  -1.1423162997339849,   -0.4838357116589506,
                                   -0.02891336668843831, 0.0014203914835180806, -0.0009890269212424476};  // 3.4e-4

// 2 x s(x); the kernels take q + 1.
template <std::size_t kCount>
void set(FastActivation& f, Form form, const double (&q)[kCount]) {
  static_assert(kCount <= std::extent_v<decltype(f.q)>);
  f.form = form;
  f.end_scale = 0.5f;
  f.start_scale = 2;
  for (std::size_t i = 0; i < kCount; ++i) f.q[i] = static_cast<float>(q[i] + (i == 0 ? 1.0 : 0.0));
}

void set_logistic(FastActivation& f, Form form, double slope) {
  f.form = form;
  f.q[0] = static_cast<float>(kMinusLog2E * slope);
}

}  // namespace

FastActivation fast_activation(const MlpSpec& spec) {
  FastActivation f;
  const bool half = spec.dtype == DType::f16;
  switch (spec.activation) {
    case Activation::identity: f.form = Form::identity; break;
    case Activation::relu: f.form = Form::relu; break;
    case Activation::relu2: f.form = Form::relu2; break;
    case Activation::gelu: half ? set(f, Form::normal, kGeluF16) : set(f, Form::normal, kGeluBf16); break;
    case Activation::gelu_tanh:
      half ? set(f, Form::tanh_normal, kGeluTanhF16) : set(f, Form::tanh_normal, kGeluTanhBf16);
      break;
    case Activation::quick_gelu: set_logistic(f, Form::logistic, core::kQuickGeluSlope); break;
    case Activation::silu: set_logistic(f, Form::logistic, 1); break;
    case Activation::sigmoid:
      f.form = Form::sigmoid;
      f.q[0] = static_cast<float>(kMinusLog2E);
      break;
    case Activation::swiglu_oai:
      set_logistic(f, Form::clamped, static_cast<double>(spec.alpha));
      f.limit = spec.limit;
      break;
  }
  if (half) f.end_scale = f.start_scale = 1;  // fp16 halves each value: it has no range to spare
  return f;
}

}  // namespace fusedmlp::cuda::narrow
