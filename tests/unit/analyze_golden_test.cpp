// The analysis of every H200 trace at hand. Expected times are sums of the kernels in the profiler's own tables, over
// the instances: GeGLU eager, for example, is (338.909 + 153.695 + 108.704 + 94.176) / 3. memsets are no kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "fusedmlp/analysis.h"

namespace {

using fusedmlp::Analysis;
using fusedmlp::MlpRow;
using fusedmlp::Phase;
using fusedmlp::Role;

using Int = std::optional<std::int64_t>;

struct Expected {
  const char* kind;
  bool gated;
  Int tokens, d_in, d_hidden, d_out;
  bool bias;
  Phase phase;
  std::int64_t instances;
  double launches, us, span_us;
  std::vector<Role> roles;
};

struct Golden {
  const char* file;
  std::int64_t kernels, memcpys, memsets;
  Int steps;
  double busy_us;
  std::vector<Expected> rows;
};

constexpr Role kGate = Role::gate, kUp = Role::up, kDown = Role::down, kAct = Role::activation, kMul = Role::multiply,
               kCast = Role::cast, kBias = Role::bias, kReduce = Role::reduce;

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> kGoldens = {
      {"geglu_768_3072_eager_shapes",
       15,
       0,
       6,
       3,
       700.251,
       {{"geglu",
         true,
         8192,
         768,
         3072,
         768,
         false,
         Phase::forward,
         3,
         5,
         231.828,
         238.707,
         {kGate, kAct, kUp, kMul, kDown}}}},
      {"geglu_768_3072_compile_shapes",
       12,
       0,
       6,
       3,
       620.414,
       {{"geglu",
         true,
         8192,
         768,
         3072,
         768,
         false,
         Phase::forward,
         3,
         4,
         205.226,
         210.634,
         {kGate, kUp, kAct, kDown}}}},
      // No shapes in the file: nothing is made up.
      {"geglu_768_3072_cold",
       5,
       0,
       2,
       std::nullopt,
       236.446,
       {{"geglu",
         true,
         {},
         {},
         {},
         {},
         false,
         Phase::forward,
         1,
         5,
         234.366,
         37278.429,
         {kGate, kAct, kUp, kMul, kDown}}}},
      {"gelu_1024_4096_m16384_eager_shapes",
       9,
       0,
       6,
       3,
       1337.624,
       {{"gelu", false, 16384, 1024, 4096, 1024, true, Phase::forward, 3, 3, 444.413, 449.085, {kUp, kAct, kDown}}}},
      {"gelu_1024_4096_m1_eager_shapes",
       12,
       0,
       0,
       3,
       32.993,
       {{"gelu",
         false,
         1,
         1024,
         4096,
         1024,
         true,
         Phase::forward,
         3,
         4,
         10.998,
         171.275,
         {kUp, kAct, kDown, kReduce}}}},
      // Autocast: weights, biases and x are cast in every step; backward has two products a weight.
      {"gelu_1024_4096_train_amp",
       102,
       3,
       15,
       3,
       2009.305,
       {{"gelu",
         false,
         4096,
         1024,
         4096,
         1024,
         true,
         Phase::backward,
         3,
         10,
         237.130,
         402.090,
         {kDown, kDown, kBias, kCast, kCast, kAct, kUp, kBias, kCast, kCast}},
        {"gelu",
         false,
         4096,
         1024,
         4096,
         1024,
         true,
         Phase::forward,
         3,
         8,
         142.197,
         449.022,
         {kCast, kCast, kCast, kUp, kAct, kCast, kCast, kDown}}}},
      {"gpt2_2layer_shapes",
       135,
       0,
       6,
       3,
       648.764,
       {{"gelu_tanh",
         false,
         1024,
         768,
         3072,
         768,
         true,
         Phase::forward,
         6,
         10,
         49.802,
         204.923,
         {kUp, kAct, kAct, kAct, kAct, kAct, kAct, kAct, kAct, kDown}}}},
      {"llama_2layer_shapes",
       306,
       0,
       6,
       3,
       2336.092,
       {{"swiglu",
         true,
         1024,
         2048,
         5632,
         2048,
         false,
         Phase::forward,
         6,
         5,
         111.947,
         158.986,
         {kGate, kAct, kUp, kMul, kDown}}}},
      {"linear_32_64_eager", 3, 0, 0, 3, 8.160, {}},  // one Linear is no MLP
  };
  return kGoldens;
}

std::ostream& operator<<(std::ostream& out, const Golden& golden) { return out << golden.file; }

class AnalyzeGolden : public testing::TestWithParam<Golden> {};

void expect_row(const MlpRow& row, const Expected& expected) {
  EXPECT_EQ(row.kind, expected.kind);
  EXPECT_EQ(row.gated, expected.gated);
  EXPECT_EQ(row.tokens, expected.tokens);
  EXPECT_EQ(row.d_in, expected.d_in);
  EXPECT_EQ(row.d_hidden, expected.d_hidden);
  EXPECT_EQ(row.d_out, expected.d_out);
  EXPECT_EQ(row.dtype, "bf16");
  EXPECT_EQ(row.bias, expected.bias);
  EXPECT_EQ(row.phase, expected.phase);
  EXPECT_EQ(row.instances, expected.instances);
  EXPECT_EQ(row.launches_per_instance, expected.launches);
  EXPECT_NEAR(row.us_per_instance, expected.us, 0.001);
  EXPECT_NEAR(row.span_us_per_instance, expected.span_us, 0.002);
  EXPECT_NEAR(row.gap_us_per_instance, expected.span_us - expected.us, 0.003);  // one stream, no overlap
  EXPECT_EQ(row.experts, std::nullopt);
  EXPECT_EQ(row.top_k, std::nullopt);
  EXPECT_EQ(row.starts_us.size(), static_cast<std::size_t>(expected.instances));
  std::vector<Role> roles;
  double sum = 0, gaps = 0;
  for (const fusedmlp::MlpKernel& kernel : row.kernels) {
    roles.push_back(kernel.role);
    sum += kernel.us;
    gaps += kernel.gap_us;
    EXPECT_FALSE(kernel.decoded.empty()) << kernel.name;
  }
  EXPECT_EQ(roles, expected.roles);
  EXPECT_NEAR(sum, expected.us, 0.001);
  EXPECT_NEAR(gaps, expected.span_us - expected.us, 0.003);
}

TEST_P(AnalyzeGolden, SaysWhatTheProfilersTableSays) {
  const Golden& golden = GetParam();
  const auto result = fusedmlp::analyze(std::string(FUSEDMLP_TEST_DATA "/traces/") + golden.file + ".json.gz");
  ASSERT_TRUE(result) << result.status().to_string();
  const Analysis& analysis = *result;
  EXPECT_EQ(analysis.device, "NVIDIA H200");
  EXPECT_EQ(analysis.kernels, golden.kernels);
  EXPECT_EQ(analysis.memcpys, golden.memcpys);
  EXPECT_EQ(analysis.memsets, golden.memsets);
  EXPECT_EQ(analysis.steps, golden.steps);
  EXPECT_NEAR(analysis.gpu_busy_us, golden.busy_us, 0.001);
  EXPECT_TRUE(analysis.warnings.empty()) << analysis.warnings.front();
  ASSERT_EQ(analysis.mlps.size(), golden.rows.size());
  double mlp_us = 0;
  for (std::size_t i = 0; i < golden.rows.size(); ++i) {
    SCOPED_TRACE(i);
    expect_row(analysis.mlps[i], golden.rows[i]);
    mlp_us += golden.rows[i].us * static_cast<double>(golden.rows[i].instances);
  }
  EXPECT_NEAR(analysis.mlp_us, mlp_us, 0.01);
  double totals = 0;
  std::int64_t count = 0;
  for (const fusedmlp::NameTotal& total : analysis.totals) {
    totals += total.us;
    count += total.count;
  }
  EXPECT_NEAR(totals, golden.busy_us, 0.01);
  EXPECT_EQ(count, golden.kernels + golden.memcpys + golden.memsets);
}

INSTANTIATE_TEST_SUITE_P(H200, AnalyzeGolden, testing::ValuesIn(goldens()),
                         [](const auto& test) { return std::string(test.param.file); });

TEST(Analyze, AFileThatIsNotThereIsAStatus) {
  const auto result = fusedmlp::analyze(FUSEDMLP_TEST_DATA "/traces/no_such_file.json");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.status().argument(), "path");
}

}  // namespace
