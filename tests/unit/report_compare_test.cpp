#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include "fusedmlp/report.h"
#include "report/wording.h"
#include "unit/report_fixtures.h"

namespace fusedmlp {
namespace {

using test::fused_analysis;
using test::geglu_analysis;

TEST(Compare, MatchesTheSameMlp) {
  const Comparison c = compare(geglu_analysis(), fused_analysis());
  ASSERT_EQ(c.mlps.size(), 1u);
  ASSERT_TRUE(c.mlps[0].a && c.mlps[0].b);
  EXPECT_EQ(c.mlps[0].change,
            "3 launches became 1, 110 us became 55.0 us (2.00x faster), 178 MB moved became 26.7 MB.");
  EXPECT_EQ(report::headline(c), "The MLPs took 1.32 ms and now take 660 us: 2.00x faster.");
}

TEST(Compare, KernelsThatCameAndWent) {
  const Comparison c = compare(geglu_analysis(), fused_analysis());
  ASSERT_EQ(c.kernels.size(), 3u);
  EXPECT_EQ(c.kernels[0].name, "fusedmlp_gated");
  EXPECT_EQ(c.kernels[0].count_a, 0);
  EXPECT_EQ(c.kernels[0].count_b, 12);
  EXPECT_EQ(c.kernels[0].us_b, 660);
  EXPECT_EQ(c.kernels[1].name, "nvjet_gate_up");
  EXPECT_EQ(c.kernels[1].us_a, 540);
  EXPECT_EQ(c.kernels[2].name, "act_and_mul<silu, bf16>");
  EXPECT_TRUE(compare(geglu_analysis(), geglu_analysis()).kernels.empty());
}

TEST(Compare, TheSameTraceDoesNotDiffer) {
  const Comparison c = compare(geglu_analysis(), geglu_analysis());
  EXPECT_EQ(c.mlps[0].change, "3 launches as before, 110 us became 110 us (no difference to speak of).");
}

TEST(Compare, UnknownWidthsMatchOnlyWhatRemains) {
  Analysis a = geglu_analysis(), b = geglu_analysis();
  a.mlps.push_back(a.mlps[0]);
  a.mlps[1].tokens = 1;
  b.mlps.push_back(b.mlps[0]);
  b.mlps[0].tokens = b.mlps[0].d_in = std::nullopt;  // stands before the exact one
  const Comparison c = compare(a, b);
  ASSERT_EQ(c.mlps.size(), 2u);
  EXPECT_EQ(c.mlps[0].b->tokens, 4096);
  EXPECT_EQ(c.mlps[1].a->tokens, 1);
  EXPECT_FALSE(c.mlps[1].b->tokens);
}

TEST(Compare, PhaseKindAndTokensKeepRowsApart) {
  Analysis a = geglu_analysis(), b = geglu_analysis();
  b.mlps[0].phase = Phase::backward;
  EXPECT_EQ(compare(a, b).mlps.size(), 2u);
  b = geglu_analysis();
  b.mlps[0].tokens = 8;
  const Comparison c = compare(a, b);
  ASSERT_EQ(c.mlps.size(), 2u);
  EXPECT_EQ(c.mlps[0].change, "Only in A.");
  EXPECT_EQ(c.mlps[1].change, "Only in B.");
  EXPECT_EQ(report::headline(c), "No MLP of one trace is in the other.");
  b = geglu_analysis();
  b.mlps[0].kind = "swiglu";
  EXPECT_EQ(compare(a, b).mlps.size(), 2u);
}

TEST(Compare, ProductsPairOnlyWhereAnActivationIsNotCertain) {
  const auto compared = [](const char* kind_a, const char* kind_b, bool gated) {
    Analysis a = geglu_analysis(), b = geglu_analysis();
    a.mlps[0].kind = kind_a;
    b.mlps[0].kind = kind_b;
    b.mlps[0].gated = gated;
    return compare(a, b).mlps;
  };
  const char* const before = "3 launches as before, 110 us became 110 us (no difference to speak of), ";
  for (const auto& [a, b] : {std::pair("geglu", "geglu_tanh"), std::pair("quick_geglu", "swiglu")}) {
    const std::vector<ComparedMlp> pairs = compared(a, b, true);
    ASSERT_EQ(pairs.size(), 1u) << a;
    EXPECT_EQ(pairs[0].change, before + std::string(a) + " became " + b + ".");
  }
  EXPECT_EQ(compared("geglu", "unknown", true).size(), 1u);
  EXPECT_EQ(compared("", "geglu", true)[0].change, std::string(before) + "an unknown kind became geglu.");
  EXPECT_EQ(compared("geglu", "unknown", false).size(), 2u);
  for (const auto& [a, b] : {std::pair("geglu", "swiglu"), std::pair("gelu", "relu"), std::pair("glu", "swiglu")}) {
    EXPECT_EQ(compared(a, b, true).size(), 2u) << a << " " << b;
  }
}

TEST(Compare, ADifferenceOfBiasOrDtypeIsSaid) {
  Analysis a = geglu_analysis(), b = geglu_analysis();
  b.mlps[0].bias = true;
  const char* const before = "3 launches as before, 110 us became 110 us (no difference to speak of), ";
  EXPECT_EQ(compare(a, b).mlps[0].change, std::string(before) + "biases came.");
  EXPECT_EQ(compare(b, a).mlps[0].change, std::string(before) + "the biases went.");
  b.mlps[0].dtype = "fp16";
  EXPECT_EQ(compare(a, b).mlps[0].change, std::string(before) + "bf16 became fp16, biases came.");
  // Another dtype with the same biases is nearer.
  b.mlps[0].dtype = "bf16";
  b.mlps.push_back(geglu_analysis().mlps[0]);
  b.mlps[1].dtype = "fp16";
  const Comparison c = compare(a, b);
  ASSERT_EQ(c.mlps.size(), 2u);
  EXPECT_EQ(c.mlps[0].b->dtype, "fp16");
}

// Time may have moved from one phase into the other.
TEST(Compare, NothingIsFasterWhereAPhaseIsMissing) {
  Analysis a = geglu_analysis(), b = fused_analysis();
  a.mlps.push_back(a.mlps[0]);
  a.mlps[1].phase = Phase::backward;
  EXPECT_EQ(
      report::headline(compare(a, b)),
      "What matched took 1.32 ms and now takes 660 us, but the backward pass of an MLP is in A alone: how the MLPs "
      "compare as a whole cannot be told.");
  EXPECT_NE(report::headline(compare(b, a)).find("in B alone"), std::string::npos);
  b.mlps.push_back(b.mlps[0]);
  b.mlps[1].phase = Phase::backward;
  EXPECT_NE(report::headline(compare(a, b)).find("2.00x faster"), std::string::npos);
  b.mlps[1].phase = Phase::forward;  // another MLP that one trace does not hold hides nothing of this one
  b.mlps[1].tokens = 8;
  a.mlps.pop_back();
  EXPECT_NE(report::headline(compare(a, b)).find("2.00x faster"), std::string::npos);
}

TEST(Compare, ARowIsMatchedOnce) {
  Analysis a = geglu_analysis();
  a.mlps.push_back(a.mlps[0]);
  const Comparison c = compare(a, geglu_analysis());
  ASSERT_EQ(c.mlps.size(), 2u);
  EXPECT_TRUE(c.mlps[0].b);
  EXPECT_FALSE(c.mlps[1].b);
}

TEST(Compare, OtherDevicesAreSaid) {
  Analysis b = fused_analysis();
  b.device = "NVIDIA L4";
  const std::vector<std::string> said = report::summary(compare(geglu_analysis(), b));
  EXPECT_NE(said.back().find("different devices"), std::string::npos);
}

TEST(Compare, AGpuWithoutANameIsAGpu) {
  Analysis a = geglu_analysis(), b = fused_analysis();
  b.device.reset();
  std::vector<std::string> said = report::summary(compare(a, b));
  EXPECT_NE(said[1].find("(a GPU that the trace does not name, 3 profiler steps, 60 kernels, GPU busy"),
            std::string::npos)
      << said[1];
  EXPECT_NE(said.back().find("one kind of device is not in them"), std::string::npos) << said.back();
  b.kernels = b.memcpys = b.memsets = 0;
  said = report::summary(compare(a, b));
  EXPECT_NE(said[1].find("(CPU, "), std::string::npos) << said[1];
  EXPECT_NE(said.back().find("different devices"), std::string::npos) << said.back();
}

TEST(Compare, Json) {
  rapidjson::Document json;
  json.Parse(to_json(compare(geglu_analysis(), fused_analysis())).c_str());
  ASSERT_FALSE(json.HasParseError());
  EXPECT_STREQ(json["schema"].GetString(), "fusedmlp-comparison-1");
  EXPECT_STREQ(json["a"]["trace"]["path"].GetString(), "runs/geglu.json.gz");
  EXPECT_STREQ(json["b"]["trace"]["path"].GetString(), "runs/fused.json.gz");
  EXPECT_EQ(json["mlps"][0]["speedup"].GetDouble(), 2);
  EXPECT_EQ(json["mlps"][0]["a"]["launches_per_instance"].GetInt(), 3);
  EXPECT_EQ(json["mlps"][0]["b"]["launches_per_instance"].GetInt(), 1);
  EXPECT_EQ(json["kernels"][0]["count_b"].GetInt(), 12);
  Analysis none = fused_analysis();
  none.mlps.clear();
  json.Parse(to_json(compare(geglu_analysis(), none)).c_str());
  EXPECT_TRUE(json["mlps"][0]["b"].IsNull());
  EXPECT_TRUE(json["mlps"][0]["speedup"].IsNull());
}

}  // namespace
}  // namespace fusedmlp
