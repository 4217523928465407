#include "core/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fusedmlp::core {
namespace {

constexpr Activation kElementwise[] = {Activation::identity, Activation::relu,      Activation::relu2,
                                       Activation::gelu,     Activation::gelu_tanh, Activation::quick_gelu,
                                       Activation::silu,     Activation::sigmoid};

// Second formulas, in long double, in other terms than activation.h uses.
long double independent(Activation activation, long double x) {
  switch (activation) {
    case Activation::identity: return x;
    case Activation::relu: return std::fmax(x, 0.0L);
    case Activation::relu2: return std::pow(std::fmax(x, 0.0L), 2.0L);
    case Activation::gelu: return 0.5L * x * (1.0L + std::erf(x / std::sqrt(2.0L)));
    case Activation::gelu_tanh:
      return 0.5L * x *
             (1.0L + std::tanh(std::sqrt(2.0L / std::numbers::pi_v<long double>) * (x + 0.044715L * x * x * x)));
    case Activation::quick_gelu: return 0.5L * x * (1.0L + std::tanh(0.851L * x));
    case Activation::silu: return 0.5L * x * (1.0L + std::tanh(0.5L * x));
    case Activation::sigmoid: return 0.5L * (1.0L + std::tanh(0.5L * x));
    case Activation::swiglu_oai: break;
  }
  return 0;
}

TEST(Activation, AgreesWithSecondFormulas) {
  for (const Activation activation : kElementwise) {
    for (int i = -1200; i <= 1200; ++i) {
      const double x = i / 100.0;
      const long double expected = independent(activation, static_cast<long double>(x));
      // The second forms cancel for x << 0, hence the part relative to |x| + 1.
      const double bound = 1e-15 * std::abs(static_cast<double>(expected)) + 1e-18 * (std::abs(x) + 1);
      EXPECT_NEAR(activate(activation, x), static_cast<double>(expected), 4 * bound) << to_string(activation) << x;
    }
  }
}

TEST(Activation, KnownValues) {
  EXPECT_NEAR(activate(Activation::gelu, 1.0), 0.84134474606854294859, 1e-15);
  EXPECT_NEAR(activate(Activation::gelu, -1.0), -0.15865525393145705141, 1e-15);
  EXPECT_NEAR(activate(Activation::gelu_tanh, 1.0), 0.84119199060827670, 1e-15);
  EXPECT_NEAR(activate(Activation::silu, 1.0), 0.73105857863000487925, 1e-15);
  EXPECT_NEAR(activate(Activation::sigmoid, 0.0), 0.5, 0.0);
  EXPECT_EQ(activate(Activation::relu2, 3.0), 9.0);
  EXPECT_EQ(activate(Activation::relu2, -3.0), 0.0);
}

TEST(Activation, FarTailsKeepTheirRelativePrecision) {
  // Phi(-10) = 7.619853024160526e-24: 1 + erf would have cancelled to 0.
  EXPECT_NEAR(activate(Activation::gelu, -10.0) / (-10 * 7.619853024160526066e-24), 1.0, 1e-12);
  EXPECT_NEAR(activate(Activation::silu, -40.0) / (-40 * std::exp(-40.0)), 1.0, 1e-12);
}

TEST(Activation, Identities) {
  for (int i = 0; i <= 800; ++i) {
    const double x = i / 100.0;
    EXPECT_NEAR(activate(Activation::gelu, x) - activate(Activation::gelu, -x), x, 1e-15 * (1 + x));
    EXPECT_NEAR(activate(Activation::gelu_tanh, x) - activate(Activation::gelu_tanh, -x), x, 4e-15 * (1 + x));
    EXPECT_NEAR(activate(Activation::silu, x) - activate(Activation::silu, -x), x, 4e-15 * (1 + x));
    EXPECT_NEAR(activate(Activation::sigmoid, x) + activate(Activation::sigmoid, -x), 1.0, 4e-16);
    EXPECT_EQ(activate(Activation::relu, x) - activate(Activation::relu, -x), x);
  }
}

TEST(Activation, DerivativesMatchFiniteDifferences) {
  for (const Activation activation : kElementwise) {
    for (int i = -800; i <= 800; ++i) {
      const double x = i / 100.0 + 0.003;  // off the kinks at 0
      const double h = 1e-3;
      // Fourth-order central difference: error h^4 |f'''''| / 30 with |f'''''| < 30, and 18 / 12 roundings of f
      // over h, one of them in f and one in its argument.
      const auto f = [&](double t) { return activate(activation, t); };
      const double numeric = (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
      const double bound = h * h * h * h + 3 * 0x1p-52 * (1 + std::abs(f(x + 2 * h))) / h;
      EXPECT_NEAR(derivative(activation, x), numeric, bound) << to_string(activation) << " at " << x;
    }
  }
}

TEST(Activation, DerivativeAtTheKinkIsZero) {
  EXPECT_EQ(derivative(Activation::relu, 0.0), 0.0);  // as torch defines it
  EXPECT_EQ(derivative(Activation::relu2, 0.0), 0.0);
}

TEST(Activation, NanAndInfFollowTheFormulas) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Activation activation : kElementwise) {
    EXPECT_TRUE(std::isnan(activate(activation, nan))) << to_string(activation);
    EXPECT_EQ(activate(activation, inf), activation == Activation::sigmoid ? 1.0f : inf) << to_string(activation);
  }
  EXPECT_EQ(activate(Activation::relu, -inf), 0.0f);
  EXPECT_EQ(activate(Activation::relu2, -inf), 0.0f);
  EXPECT_EQ(activate(Activation::sigmoid, -inf), 0.0f);
  for (const Activation product :
       {Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu, Activation::silu}) {
    EXPECT_TRUE(std::isnan(activate(product, -inf))) << to_string(product);  // -inf * 0
  }
}

TEST(Activation, GatedIsActivationTimesUp) {
  MlpSpec spec;
  spec.gated = true;
  for (const Activation activation : kElementwise) {
    spec.activation = activation;
    EXPECT_EQ(gated(spec, 0.75, -2.0), activate(activation, 0.75) * -2.0);
  }
}

TEST(Activation, SwigluOaiClampsGateAboveAndUpOnBothSides) {
  MlpSpec spec;
  spec.gated = true;
  spec.activation = Activation::swiglu_oai;
  const auto expected = [](double g, double u) { return g / (1 + std::exp(-1.702f * g)) * (u + 1); };
  EXPECT_NEAR(gated(spec, 2.0, 3.0), expected(2, 3), 1e-14);
  EXPECT_NEAR(gated(spec, 9.0, 3.0), expected(7, 3), 1e-14);
  EXPECT_NEAR(gated(spec, 2.0, 9.0), expected(2, 7), 1e-14);
  EXPECT_NEAR(gated(spec, 2.0, -9.0), expected(2, -7), 1e-14);
  EXPECT_NEAR(gated(spec, -9.0, 0.5), expected(-9, 0.5), 1e-14);  // the gate has no lower clamp
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(gated(spec, nan, 1.0)));
  EXPECT_TRUE(std::isnan(gated(spec, 1.0, nan)));
  spec.alpha = 0.5f;
  spec.limit = 1.0f;
  EXPECT_NEAR(gated(spec, 3.0, 3.0), 1 / (1 + std::exp(-0.5)) * 2, 1e-15);
}

}  // namespace
}  // namespace fusedmlp::core
