#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include "fusedmlp/report.h"
#include "unit/report_fixtures.h"

namespace fusedmlp {
namespace {

rapidjson::Document parse(const std::string& text) {
  rapidjson::Document out;
  out.Parse<rapidjson::kParseValidateEncodingFlag>(text.data(), text.size());
  EXPECT_FALSE(out.HasParseError()) << text;
  return out;
}

TEST(ReportJson, EveryNamedKeyIsThere) {
  const auto json = parse(to_json(test::geglu_analysis()));
  EXPECT_STREQ(json["schema"].GetString(), "fusedmlp-analysis-1");
  const auto& trace = json["trace"];
  EXPECT_STREQ(trace["path"].GetString(), "runs/geglu.json.gz");
  EXPECT_STREQ(trace["device"].GetString(), "NVIDIA H200");
  EXPECT_EQ(trace["kernels"].GetInt(), 60);
  EXPECT_EQ(trace["memcpys"].GetInt(), 1);
  EXPECT_EQ(trace["memsets"].GetInt(), 2);
  EXPECT_EQ(trace["steps"].GetInt(), 3);
  EXPECT_TRUE(trace["warnings"].IsArray());
  const auto& summary = json["summary"];
  EXPECT_EQ(summary["gpu_busy_us"].GetDouble(), 2400);
  EXPECT_EQ(summary["gpu_span_us"].GetDouble(), 3000);
  EXPECT_EQ(summary["mlp_us"].GetDouble(), 1200);
  EXPECT_EQ(summary["predicted_saving_us"].GetDouble(), 240);
  ASSERT_EQ(json["mlps"].Size(), 1u);
  const auto& row = json["mlps"][0];
  EXPECT_STREQ(row["kind"].GetString(), "geglu");
  EXPECT_TRUE(row["gated"].GetBool());
  EXPECT_EQ(row["tokens"].GetInt(), 4096);
  EXPECT_EQ(row["d_in"].GetInt(), 768);
  EXPECT_EQ(row["d_hidden"].GetInt(), 3072);
  EXPECT_EQ(row["d_out"].GetInt(), 768);
  EXPECT_STREQ(row["dtype"].GetString(), "bf16");
  EXPECT_FALSE(row["bias"].GetBool());
  EXPECT_STREQ(row["phase"].GetString(), "forward");
  EXPECT_EQ(row["instances"].GetInt(), 12);
  EXPECT_EQ(row["launches_per_instance"].GetDouble(), 3);
  EXPECT_EQ(row["us_per_instance"].GetDouble(), 100);
  EXPECT_EQ(row["span_us_per_instance"].GetDouble(), 110);
  EXPECT_EQ(row["gap_us_per_instance"].GetDouble(), 10);
  EXPECT_TRUE(row["experts"].IsNull());
  EXPECT_TRUE(row["top_k"].IsNull());
  EXPECT_EQ(row["confidence"].GetDouble(), 0.75);
  EXPECT_STREQ(row["regime"].GetString(), "compute");
  EXPECT_STREQ(row["verdict"].GetString(), "fuse");
  EXPECT_EQ(row["predicted_us"].GetDouble(), 80);
  EXPECT_STREQ(row["prediction_basis"].GetString(), "modelled");
  EXPECT_STREQ(row["reason"].GetString(), "the hidden stays on the chip");
  ASSERT_EQ(row["kernels"].Size(), 3u);
  const auto& kernel = row["kernels"][0];
  EXPECT_STREQ(kernel["role"].GetString(), "gate_up");
  EXPECT_EQ(kernel["occupancy"].GetDouble(), 0.125);
  EXPECT_EQ(kernel["grid"][0].GetInt(), 132);
  EXPECT_TRUE(row["kernels"][1]["grid"].IsNull());
}

TEST(ReportJson, UnknownIsNull) {
  const auto json = parse(to_json(test::bare_analysis()));
  EXPECT_TRUE(json["trace"]["device"].IsNull());
  EXPECT_TRUE(json["trace"]["steps"].IsNull());
  EXPECT_TRUE(json["device_used"]["peak_flops"].IsNull());
  const auto& row = json["mlps"][0];
  for (const char* name : {"tokens", "d_in", "d_hidden", "d_out", "dtype", "bias", "experts", "top_k", "regime",
                           "predicted_us", "hypothetical_us", "limit_us", "flops", "least_bytes", "modelled_bytes"}) {
    EXPECT_TRUE(row[name].IsNull()) << name;
  }
}

TEST(ReportJson, NumbersThatJsonLacksAreNull) {
  Analysis analysis = test::geglu_analysis();
  analysis.mlps[0].us_per_instance = std::numeric_limits<double>::quiet_NaN();
  analysis.gpu_busy_us = std::numeric_limits<double>::infinity();
  const auto json = parse(to_json(analysis));
  EXPECT_TRUE(json["mlps"][0]["us_per_instance"].IsNull());
  EXPECT_TRUE(json["summary"]["gpu_busy_us"].IsNull());
}

TEST(ReportJson, HostileNamesAreValidText) {
  const auto json = parse(to_json(test::hostile_analysis()));
  EXPECT_STREQ(json["mlps"][0]["kernels"][0]["name"].GetString(), "<script>alert('&\"')</script>\uFFFD[31m\uFFFD");
}

TEST(ReportJson, ReadsBackWhatItWrote) {
  for (const Analysis& analysis : {test::geglu_analysis(), test::bare_analysis(), Analysis{}}) {
    const std::string text = to_json(analysis);
    const Result<Analysis> again = read_analysis(text);
    ASSERT_TRUE(again) << again.status().message();
    EXPECT_EQ(to_json(*again), text);
    EXPECT_EQ(to_html(*again), to_html(analysis));
  }
}

TEST(ReportJson, NumbersKeepEveryBit) {
  Analysis analysis = test::geglu_analysis();
  analysis.mlp_us = 4.767000000000001;  // the parser's fast path gives a neighbour
  analysis.gpu_busy_us = 0.1 + 0.2;
  const Result<Analysis> again = read_analysis(to_json(analysis));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->mlp_us, analysis.mlp_us);
  EXPECT_EQ(again->gpu_busy_us, analysis.gpu_busy_us);
}

TEST(ReportJson, ReadsWithoutTheFieldsThatOthersMayLeaveOut) {
  const Result<Analysis> read =
      read_analysis(R"({"schema":"fusedmlp-analysis-1","trace":{"path":"p"},"summary":{},"mlps":[{"kind":"gelu"}]})");
  ASSERT_TRUE(read) << read.status().message();
  EXPECT_EQ(read->mlps[0].kind, "gelu");
  EXPECT_FALSE(read->mlps[0].regime);
}

TEST(ReportJson, RefusesWhatItIsNot) {
  const auto refused = [](std::string_view text) {
    const Result<Analysis> read = read_analysis(text);
    EXPECT_FALSE(read) << text;
    if (read) return std::string();
    EXPECT_EQ(read.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(read.status().argument(), "json");
    return read.status().message();
  };
  EXPECT_NE(refused("").find("is not JSON"), std::string::npos);
  EXPECT_NE(refused("{").find("byte 1"), std::string::npos);
  EXPECT_NE(refused("[]").find("analysis must be an object"), std::string::npos);
  EXPECT_NE(refused("{}").find("accepted: \"fusedmlp-analysis-1\""), std::string::npos);
  EXPECT_NE(refused(R"({"schema":"fusedmlp-comparison-1"})").find("fusedmlp-comparison-1"), std::string::npos);
  EXPECT_NE(refused(R"({"schema":"fusedmlp-analysis-1"})").find("analysis.trace is missing"), std::string::npos);
  const std::string head = R"({"schema":"fusedmlp-analysis-1","trace":{},"summary":{},"mlps":)";
  EXPECT_NE(refused(head + "7}").find("analysis.mlps must be an array"), std::string::npos);
  EXPECT_NE(refused(head + "[7]}").find("analysis.mlps[0] must be an object"), std::string::npos);
  EXPECT_NE(refused(head + R"([{"tokens":"x"}]})").find("analysis.mlps[0].tokens must be a whole number"),
            std::string::npos);
  EXPECT_NE(refused(head + R"([{"regime":"fast"}]})").find("regime is \"fast\""), std::string::npos);
  EXPECT_NE(refused(head + R"([{"kernels":[{"grid":[1,2]}]}]})").find("three whole numbers"), std::string::npos);
  EXPECT_NE(refused(std::string(100000, '[')).find("is not JSON"), std::string::npos) << "deep nesting";
}

}  // namespace
}  // namespace fusedmlp
