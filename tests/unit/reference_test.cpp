#include "reference/reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/activation.h"
#include "core/kernel.h"
#include "unit/fixtures.h"

namespace fusedmlp::core {
namespace {

using test::Elements;
using test::Layout;
using test::make_x;
using test::Member;
using test::Mlp;
using test::ScopedEnv;
using test::small_integers;
using test::uniform;
using test::Values;

constexpr const char* kForms[] = {"identity",   "relu",        "relu2",    "gelu",  "gelu_tanh", "quick_gelu",
                                  "silu",       "sigmoid",     "bilinear", "reglu", "relu2glu",  "geglu",
                                  "geglu_tanh", "quick_geglu", "swiglu",   "glu",   "swiglu_oai"};

MlpSpec spec_of(const std::string& text) { return parse_spec(text).value(); }

// The logical values of one member, rounded to the storage type.
std::vector<double> stored(const MlpSpec& spec, const Values& values, Member member, std::int64_t rows,
                           std::int64_t cols) {
  Elements all(spec.dtype, rows * cols);
  std::vector<double> out;
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    all.set(i, values(member, i / cols, i % cols));
    out.push_back(static_cast<double>(all.get(i)));
  }
  return out;
}

struct Naive {
  std::vector<double> y;
  std::vector<double> magnitude;
  double largest_hidden = 0;
};

// From the definition, straight from the logical values.
Naive naive(const MlpSpec& spec, const Values& values, std::int64_t tokens) {
  const auto x = stored(spec, values, Member::x, tokens, spec.d_in);
  const auto up = stored(spec, values, Member::up, spec.d_hidden, spec.d_in);
  const auto gate = stored(spec, values, Member::gate, spec.d_hidden, spec.d_in);
  const auto down = stored(spec, values, Member::down, spec.d_out, spec.d_hidden);
  const auto bias_up = stored(spec, values, Member::bias_up, spec.d_hidden, 1);
  const auto bias_gate = stored(spec, values, Member::bias_gate, spec.d_hidden, 1);
  const auto bias_down = stored(spec, values, Member::bias_down, spec.d_out, 1);
  const auto dot = [](const double* a, const double* b, std::int64_t n, double sum) {
    for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
  };
  Naive out;
  std::vector<double> hidden(static_cast<std::size_t>(spec.d_hidden));
  for (std::int64_t t = 0; t < tokens; ++t) {
    const double* row = x.data() + t * spec.d_in;
    for (std::size_t h = 0; h < hidden.size(); ++h) {
      const std::size_t at = h * static_cast<std::size_t>(spec.d_in);
      const double u = dot(row, &up[at], spec.d_in, spec.bias_up ? bias_up[h] : 0);
      const double g = dot(row, &gate[at], spec.d_in, spec.bias_gate ? bias_gate[h] : 0);
      hidden[h] = spec.gated ? gated(spec, g, u) : activate(spec.activation, u);
      out.largest_hidden = std::max(out.largest_hidden, std::abs(hidden[h]));
    }
    for (std::int64_t o = 0; o < spec.d_out; ++o) {
      const double* weights = down.data() + o * spec.d_hidden;
      const double bias = spec.bias_down ? bias_down[static_cast<std::size_t>(o)] : 0;
      out.y.push_back(dot(weights, hidden.data(), spec.d_hidden, bias));
      double magnitude = 0;
      for (std::size_t h = 0; h < hidden.size(); ++h) magnitude += std::abs(weights[h] * hidden[h]);
      out.magnitude.push_back(magnitude);
    }
  }
  return out;
}

std::vector<float> run_reference(const Mlp& mlp, const Elements& x, std::int64_t tokens) {
  const ScopedEnv forced("FUSEDMLP_KERNEL", "reference");
  const MlpSpec& spec = mlp.spec();
  Elements y(spec.dtype, tokens * spec.d_out);
  RunArgs args;
  args.x = x.data();
  args.y = y.data();
  args.tokens = tokens;
  const Status status = run(spec, mlp.weights, nullptr, args);
  EXPECT_TRUE(status.ok()) << status.to_string();
  std::vector<float> out(static_cast<std::size_t>(tokens * spec.d_out));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = y.get(static_cast<std::int64_t>(i));
  return out;
}

TEST(ReferenceF64, AgreesWithTheDefinition) {
  for (const char* form : kForms) {
    for (const char* rest : {":5x7->3", ":17x19+bias,bf16", ":9x33->11+bias_up,fp16", ":1x1+bias_down"}) {
      const MlpSpec spec = spec_of(std::string(form) + rest);
      const Values values = uniform(11);
      const Mlp mlp(spec, values);
      const std::int64_t tokens = 11;
      const Elements x = make_x(spec, tokens, values);
      std::vector<double> y(static_cast<std::size_t>(tokens * spec.d_out));
      std::vector<double> magnitude(y.size());
      reference_f64(spec, mlp.weights, x.data(), 0, y.data(), magnitude.data(), 0, tokens);
      const Naive expected = naive(spec, values, tokens);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double bound = 1e-13 * (expected.magnitude[i] + 1);
        ASSERT_NEAR(y[i], expected.y[i], bound) << to_string(spec);
        ASSERT_NEAR(magnitude[i], expected.magnitude[i], bound) << to_string(spec);
      }
    }
  }
}

TEST(ReferenceF64, HonoursStridesAndLeavesGapsAlone) {
  const MlpSpec spec = spec_of("geglu:5x7->3+bias");
  const Mlp mlp(spec, uniform(2));
  const std::int64_t tokens = 9;
  Elements wide(spec.dtype, tokens * 8);
  const Elements x = make_x(spec, tokens, uniform(2));
  for (std::int64_t i = 0; i < tokens * 5; ++i) wide.set(i / 5 * 8 + i % 5, x.get(i));
  std::vector<double> dense(static_cast<std::size_t>(tokens * 3));
  std::vector<double> apart(static_cast<std::size_t>(tokens * 4), -99.0);
  reference_f64(spec, mlp.weights, x.data(), 0, dense.data(), 0, tokens);
  reference_f64(spec, mlp.weights, wide.data(), 8, apart.data(), 4, tokens);
  for (std::size_t t = 0; t < 9; ++t) {
    for (std::size_t o = 0; o < 3; ++o) EXPECT_EQ(apart[t * 4 + o], dense[t * 3 + o]);
    EXPECT_EQ(apart[t * 4 + 3], -99.0);
  }
  reference_f64(spec, mlp.weights, nullptr, 0, nullptr, 0, 0);
}

TEST(ReferenceKernel, IntegersAreExact) {
  for (const char* form : {"identity", "relu", "relu2", "bilinear", "reglu", "relu2glu"}) {
    for (const char* shape : {":1x1", ":3x17->5", ":65x127->16+bias", ":130x33->48"}) {
      for (const char* dtype : {"fp32", "bf16", "fp16"}) {
        MlpSpec spec = spec_of(std::string(form) + shape + "," + dtype);
        const Values values = small_integers(3);
        const Mlp mlp(spec, values);
        const std::int64_t tokens = 37;
        const Elements x = make_x(spec, tokens, values);
        const std::vector<float> y = run_reference(mlp, x, tokens);
        const Naive expected = naive(spec, values, tokens);
        ASSERT_LE(expected.largest_hidden, 256) << "beyond it bf16 would round the hidden";
        for (std::size_t i = 0; i < y.size(); ++i) {
          Elements rounded(spec.dtype, 1);  // an output beyond 256 is rounded once to bf16, from its exact value
          rounded.set(0, static_cast<float>(expected.y[i]));
          ASSERT_EQ(y[i], rounded.get(0)) << to_string(spec);
        }
      }
    }
  }
}

// The same arithmetic as the kernel promises, written the plain way: fp32 sums in the order of the index,
// rounded after every layer, the activation and the product with up.
float eager(const MlpSpec& spec, const Mlp& mlp, const Elements& x, std::int64_t token, std::int64_t out) {
  const auto rounded = [&](float value) {
    Elements one(spec.dtype, 1);
    one.set(0, value);
    return one.get(0);
  };
  const auto linear = [&](const auto& input, const MatrixView& w, const VectorView& b, std::int64_t row) {
    float sum = 0;
    for (std::int64_t i = 0; i < w.cols; ++i) {
      sum += input(i) * load(spec.dtype, w.data, row * w.row_stride + i * w.col_stride);
    }
    if (b.data != nullptr) sum += load(spec.dtype, b.data, row * b.stride);
    return rounded(sum);
  };
  const auto from_x = [&](std::int64_t i) { return x.get(token * spec.d_in + i); };
  std::vector<float> hidden(static_cast<std::size_t>(spec.d_hidden));
  for (std::int64_t h = 0; h < spec.d_hidden; ++h) {
    const float up = linear(from_x, mlp.weights.up, mlp.weights.bias_up, h);
    float& value = hidden[static_cast<std::size_t>(h)];
    if (!spec.gated) {
      value = rounded(activate(spec.activation, up));
      continue;
    }
    const float gate = linear(from_x, mlp.weights.gate, mlp.weights.bias_gate, h);
    if (spec.activation == Activation::swiglu_oai) {
      const float g = std::fmin(gate, spec.limit);
      const float u = std::fmax(std::fmin(up, spec.limit), -spec.limit);
      value = rounded(rounded(g * sigmoid(spec.alpha * g)) * (u + 1.0f));
    } else {
      value = rounded(rounded(activate(spec.activation, gate)) * up);
    }
  }
  return linear([&](std::int64_t i) { return hidden[static_cast<std::size_t>(i)]; }, mlp.weights.down,
                mlp.weights.bias_down, out);
}

TEST(ReferenceKernel, RoundsAfterEveryLayerInIndexOrder) {
  for (const char* form : kForms) {
    for (const char* dtype : {"fp32", "bf16", "fp16"}) {
      const MlpSpec spec = spec_of(std::string(form) + ":150x37->21+bias," + dtype);
      const Mlp mlp(spec, uniform(4));
      const std::int64_t tokens = 35;
      const Elements x = make_x(spec, tokens, uniform(4));
      const std::vector<float> y = run_reference(mlp, x, tokens);
      for (std::int64_t t = 0; t < tokens; t += 5) {
        for (std::int64_t o = 0; o < spec.d_out; ++o) {
          const float expected = eager(spec, mlp, x, t, o);
          ASSERT_EQ(y[static_cast<std::size_t>(t * spec.d_out + o)], expected) << to_string(spec) << t << "," << o;
        }
      }
    }
  }
}

TEST(ReferenceKernel, EveryLayoutGivesTheSameBits) {
  for (const char* text : {"gelu:33x40->17+bias", "geglu:33x40->17+bias,bf16", "swiglu:33x40->17,fp16"}) {
    for (const char* order : {"first", "last", "interleaved"}) {
      const MlpSpec plain = spec_of(text);
      const MlpSpec spec = plain.gated ? spec_of(std::string(text) + ",gate=" + order) : plain;
      const Values values = uniform(6);
      const Elements x = make_x(spec, 19, values);
      const std::vector<float> expected = run_reference(Mlp(spec, values), x, 19);
      for (const Layout layout : {Layout::out_in, Layout::in_out, Layout::padded}) {
        EXPECT_EQ(run_reference(Mlp(spec, values, layout), x, 19), expected) << to_string(spec);
        if (!spec.gated) continue;
        EXPECT_EQ(run_reference(Mlp(spec, values, layout, true), x, 19), expected) << to_string(spec);
      }
    }
  }
}

TEST(ReferenceKernel, NanAndInfReachTheOutput) {
  const MlpSpec spec = spec_of("gelu:8x16->4");
  const Mlp mlp(spec, [](Member, std::int64_t, std::int64_t) { return 1.0f; });
  Elements x = make_x(spec, 3, [](Member, std::int64_t, std::int64_t) { return 1.0f; });
  x.set(0, std::numeric_limits<float>::quiet_NaN());
  x.set(8, std::numeric_limits<float>::infinity());
  const std::vector<float> y = run_reference(mlp, x, 3);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[4], std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isfinite(y[8]));
}

TEST(ReferenceKernel, ManyTokensAreTakenInTurns) {
  // A hidden of 2^18 fp32 is 1 MiB a token: 32 tokens fit the 32 MiB that are stored at a time.
  const MlpSpec spec = spec_of("relu:1x262144->1");
  const DeviceInfo device = describe(Device::cpu()).value();
  const std::size_t bytes = reference_kernel().workspace_bytes({spec, 100, device, 2, false});
  EXPECT_EQ(bytes, std::size_t{32} << 20);

  const Mlp mlp(spec, [](Member member, std::int64_t r, std::int64_t c) {
    const std::int64_t column = member == Member::down ? c : r;
    return member == Member::x ? static_cast<float>(r) : column < 3 ? 1.0f : 0.0f;
  });
  const Elements x = make_x(spec, 40, [](Member, std::int64_t r, std::int64_t) { return static_cast<float>(r); });
  const std::vector<float> y = run_reference(mlp, x, 40);
  for (std::size_t t = 0; t < 40; ++t) EXPECT_EQ(y[t], 3.0f * static_cast<float>(t));
}

TEST(ReferenceKernel, PredictsMoreThanTheLimit) {
  const DeviceInfo device = describe(Device::cpu()).value();
  for (const char* text : {"gelu:64x256", "geglu:768x3072,bf16", "swiglu:2048x5632,fp16"}) {
    const MlpSpec spec = spec_of(text);
    double previous = 0;
    for (const std::int64_t tokens : {1, 16, 1024}) {
      const double seconds = reference_kernel().predict({spec, tokens, device, 2, false}).seconds;
      EXPECT_GT(seconds, previous);
      EXPECT_GT(seconds, flops(spec, tokens) / (2 * device.flops_per_core[static_cast<int>(spec.dtype)]));
      previous = seconds;
    }
  }
}

}  // namespace
}  // namespace fusedmlp::core
