// The C ABI of traces.
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <string>

#include "fusedmlp/c_api.h"
#include "fusedmlp/report.h"
#include "unit/report_fixtures.h"

namespace fusedmlp {
namespace {

rapidjson::Document parse(char* text) {
  rapidjson::Document document;
  EXPECT_NE(text, nullptr);
  if (text == nullptr) return document;
  document.Parse<rapidjson::kParseValidateEncodingFlag | rapidjson::kParseFullPrecisionFlag>(text);
  EXPECT_FALSE(document.HasParseError()) << text;
  fusedmlp_free(text);
  return document;
}

void expect_error(char* text, const char* code, const char* argument, const char* part) {
  const rapidjson::Document d = parse(text);
  EXPECT_FALSE(d["ok"].GetBool());
  EXPECT_STREQ(d["code"].GetString(), code);
  EXPECT_STREQ(d["argument"].GetString(), argument);
  EXPECT_NE(std::string(d["message"].GetString()).find(part), std::string::npos) << d["message"].GetString();
}

TEST(CApiTraces, LayoutsAreThoseOfTheLibrary) {
  const std::string json = to_json(test::geglu_analysis());
  EXPECT_EQ(parse(fusedmlp_analysis_text(json.c_str(), nullptr))["text"].GetString(),
            to_text(test::geglu_analysis()));
  EXPECT_EQ(parse(fusedmlp_analysis_text(json.c_str(), R"({"width":120,"color":true})"))["text"].GetString(),
            to_text(test::geglu_analysis(), {120, true}));
  EXPECT_EQ(parse(fusedmlp_analysis_html(json.c_str()))["html"].GetString(), to_html(test::geglu_analysis()));
}

TEST(CApiTraces, Comparisons) {
  const Comparison comparison = compare(test::geglu_analysis(), test::fused_analysis());
  const std::string a = to_json(comparison.a), b = to_json(comparison.b);
  const rapidjson::Document d = parse(fusedmlp_compare_json(a.c_str(), b.c_str()));
  EXPECT_STREQ(d["comparison"]["schema"].GetString(), "fusedmlp-comparison-1");
  EXPECT_EQ(d["comparison"]["mlps"][0]["speedup"].GetDouble(), 2);
  EXPECT_EQ(parse(fusedmlp_compare_text(a.c_str(), b.c_str(), nullptr))["text"].GetString(), to_text(comparison));
  EXPECT_EQ(parse(fusedmlp_compare_html(("[" + a + "," + b + "]").c_str()))["html"].GetString(), to_html(comparison));
}

TEST(CApiTraces, WrongArgumentsAreNamed) {
  const std::string json = to_json(test::geglu_analysis());
  const char* a = json.c_str();
  const char* wrong = "invalid_argument";
  expect_error(fusedmlp_analyze_json(nullptr, nullptr), wrong, "path", "null");
  expect_error(fusedmlp_analyze_json("no such file", nullptr), wrong, "path", "no such file");
  expect_error(fusedmlp_analyze_json("x", "7"), wrong, "options", "object");
  expect_error(fusedmlp_analyze_json("x", R"({"peak":1})"), wrong, "options", "accepted: target, peak_flops");
  expect_error(fusedmlp_analyze_json("x", R"({"peak_flops":-1})"), wrong, "peak_flops", "above 0");
  expect_error(fusedmlp_analyze_json("x", R"({"target":1})"), wrong, "target", "a text");
  expect_error(fusedmlp_analysis_text(nullptr, nullptr), wrong, "analysis", "null");
  expect_error(fusedmlp_analysis_text("{", nullptr), wrong, "analysis", "is not JSON");
  expect_error(fusedmlp_analysis_text(a, R"({"width":0})"), wrong, "width", "above 0");
  expect_error(fusedmlp_analysis_html("{}"), wrong, "analysis", "fusedmlp-analysis-1");
  expect_error(fusedmlp_compare_json(a, nullptr), wrong, "b", "null");
  expect_error(fusedmlp_compare_json("[]", a), wrong, "a", "object");
  expect_error(fusedmlp_compare_html("[]"), wrong, "analyses", "two or more");
  expect_error(fusedmlp_compare_html("[{},{}]"), wrong, "analyses", "fusedmlp-analysis-1");
  expect_error(fusedmlp_explain_kernel_json(nullptr), wrong, "name", "null");
  expect_error(fusedmlp_explain_kernel_json(" "), wrong, "name", "no name");
}

TEST(CApiTraces, KernelNames) {
  rapidjson::Document d = parse(fusedmlp_explain_kernel_json("nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_TNT"));
  EXPECT_TRUE(d["ok"].GetBool());
  EXPECT_NE(std::string(d["words"].GetString()).find("tile 256x128x64"), std::string::npos);
  d = parse(fusedmlp_explain_kernel_json("nobody\xff knows"));
  EXPECT_TRUE(d["ok"].GetBool());
  EXPECT_TRUE(d["words"].IsNull());
  EXPECT_STREQ(d["name"].GetString(), "nobody\uFFFD knows");
}

}  // namespace
}  // namespace fusedmlp
