#include "cuda/common/fast_activation.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "core/activation.h"

namespace fusedmlp::cuda {
namespace {

constexpr double kMinusLog2E = -1.4426950408889634;
constexpr double kGeluTanhSlope = 1.5957691216057308;  // 2 sqrt(2/pi)

// By scripts/fit_logit_normal.py, for x^2 <= 36. Largest error of x Phi(x), relative to max(x Phi(x), 2^-8
// |x|): 4.1e-4 for bf16 (eps is 7.8e-3), 8.9e-5 for fp16 (9.8e-4).
constexpr double kGeluBf16[] = {1.5942490831820786, 0.07458616576279581, -0.0007783342141752336};
constexpr double kGeluF16[] = {1.5953705379951595, 0.07332553396259554, -0.0003881738484142463,
                               -4.3840050746094264e-05, 1.5592195192539763e-06};

// log2 Phi(-a) by scripts/fit_sigmoid_tail.py. Largest error of x Phi(x), relative to max(x Phi(x), 2^-8 |x|) in
// bf16: 1.4e-3, in fp16 to max(x Phi(x), 2^-14 |x|): 5.7e-5.
constexpr double kGeluTailBf16[] = {-1.0020281015954275, -1.1266028146582514, -0.5061235367908489,
                                    -0.022239590121929567};
constexpr double kGeluTailF16[] = {-1.0000828067054328,  -1.149709192917762,    -0.462945313287571,
                                   -0.04912661312974888, 0.0060975623765311335, -0.0003488924554524082};
// Below that the bound of an element's error has no room for the one of kGeluTailBf16 (docs/lab-notes-gpu.md).
constexpr std::int64_t kLeastInput = 64, kLeastHidden = 16;

template <std::size_t kCount>
void set(FastActivation& args, const double (&p)[kCount]) {
  args.shape = ActivationShape::logistic;
  std::transform(std::begin(p), std::end(p), args.p, [](double c) { return static_cast<float>(kMinusLog2E * c); });
}

template <std::size_t kCount>
void set_normal(FastActivation& args, const double (&tail)[kCount]) {
  args.shape = ActivationShape::normal;
  double power = 1;  // of 2
  for (std::size_t i = 0; i < kCount; ++i, power *= 2) {
    args.p[i] = static_cast<float>(power * tail[i] + (i == 0 ? 1.0 : 0.0));
  }
}

}  // namespace

FastActivation fast_activation(const MlpSpec& spec) {
  FastActivation args;
  switch (spec.activation) {
    case Activation::identity: args.shape = ActivationShape::identity; break;
    case Activation::relu: args.shape = ActivationShape::relu; break;
    case Activation::relu2: args.shape = ActivationShape::relu2; break;
    case Activation::gelu:
      if (spec.dtype == DType::f16) {
        spec.gated ? set(args, kGeluF16) : set_normal(args, kGeluTailF16);
      } else if (spec.gated || spec.d_in < kLeastInput || spec.d_hidden < kLeastHidden) {
        set(args, kGeluBf16);
      } else {
        set_normal(args, kGeluTailBf16);
      }
      break;
    case Activation::gelu_tanh: set(args, {kGeluTanhSlope, kGeluTanhSlope * core::kGeluTanhCubic}); break;
    case Activation::quick_gelu: set(args, {core::kQuickGeluSlope}); break;
    case Activation::silu: set(args, {1.0}); break;
    case Activation::sigmoid:
      args.shape = ActivationShape::sigmoid;
      args.p[0] = static_cast<float>(kMinusLog2E);
      break;
    case Activation::swiglu_oai:
      args.shape = ActivationShape::swiglu_oai;
      args.p[0] = static_cast<float>(kMinusLog2E * static_cast<double>(spec.alpha));
      args.limit = spec.limit;
      break;
  }
  return args;
}

}  // namespace fusedmlp::cuda
