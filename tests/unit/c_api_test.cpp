#include "fusedmlp/c_api.h"

#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <cstring>
#include <string>

#include "unit/fixtures.h"

namespace fusedmlp {
namespace {

using test::ScopedEnv;

// Parses and frees an answer of the C API.
rapidjson::Document parse(char* text) {
  rapidjson::Document document;
  EXPECT_NE(text, nullptr);
  if (text == nullptr) return document;
  document.Parse(text);
  EXPECT_FALSE(document.HasParseError()) << text;
  EXPECT_TRUE(document.IsObject()) << text;
  fusedmlp_free(text);
  return document;
}

void expect_error(char* text, const char* code, const char* argument, const char* part) {
  const rapidjson::Document d = parse(text);
  EXPECT_FALSE(d["ok"].GetBool());
  EXPECT_STREQ(d["code"].GetString(), code);
  EXPECT_STREQ(d["argument"].GetString(), argument);
  EXPECT_NE(std::string(d["message"].GetString()).find(part), std::string::npos) << d["message"].GetString();
  EXPECT_EQ(d.MemberCount(), 4u);
}

TEST(CApi, VersionIsTheLibrarys) { EXPECT_STREQ(fusedmlp_version(), version()); }

TEST(CApi, FreeAcceptsNull) { fusedmlp_free(nullptr); }

TEST(CApi, SpecHasEveryField) {
  const rapidjson::Document d = parse(fusedmlp_spec_json("swiglu_oai:8x16->4+bias_gate,bf16,gate=last,limit=3"));
  EXPECT_TRUE(d["ok"].GetBool());
  EXPECT_STREQ(d["spec"].GetString(), "swiglu_oai:8x16->4+bias_gate,bf16,gate=last,limit=3");
  EXPECT_STREQ(d["form"].GetString(), "swiglu_oai");
  EXPECT_EQ(d["d_in"].GetInt64(), 8);
  EXPECT_EQ(d["d_hidden"].GetInt64(), 16);
  EXPECT_EQ(d["d_out"].GetInt64(), 4);
  EXPECT_STREQ(d["activation"].GetString(), "swiglu_oai");
  EXPECT_EQ(d["activation_index"].GetInt(), static_cast<int>(Activation::swiglu_oai));
  EXPECT_TRUE(d["gated"].GetBool());
  EXPECT_STREQ(d["gate_order"].GetString(), "last");
  EXPECT_EQ(d["gate_order_index"].GetInt(), 1);
  EXPECT_TRUE(d["bias_gate"].GetBool());
  EXPECT_FALSE(d["bias_up"].GetBool());
  EXPECT_FALSE(d["bias_down"].GetBool());
  EXPECT_STREQ(d["dtype"].GetString(), "bf16");
  EXPECT_EQ(d["dtype_index"].GetInt(), 1);
  EXPECT_FLOAT_EQ(d["alpha"].GetFloat(), 1.702f);
  EXPECT_FLOAT_EQ(d["limit"].GetFloat(), 3.0f);
  EXPECT_EQ(d["weight_elements"].GetInt64(), 2 * 8 * 16 + 16 * 4 + 16);
  EXPECT_EQ(d["flops_per_token"].GetDouble(), 2.0 * (2 * 8 * 16 + 16 * 4));
}

TEST(CApi, ErrorsAreObjectsToo) {
  expect_error(fusedmlp_spec_json("gelu:8"), "invalid_argument", "spec", "character 7");
  expect_error(fusedmlp_spec_json(nullptr), "invalid_argument", "spec", "null");
  expect_error(fusedmlp_spec_json("\xff\xfe\"\n"), "invalid_argument", "spec", "\\xff");
  expect_error(fusedmlp_explain_json("gelu:8", 1, "cpu"), "invalid_argument", "spec", "character 7");
  expect_error(fusedmlp_explain_json("gelu:8x8", -1, "cpu"), "invalid_argument", "tokens", "got -1");
  expect_error(fusedmlp_explain_json("gelu:8x8", 1, "tpu"), "invalid_argument", "device", "accepted: cpu");
  expect_error(fusedmlp_explain_json("gelu:8x8", 1, nullptr), "invalid_argument", "device", "null");
  expect_error(fusedmlp_explain_json(nullptr, 1, "cpu"), "invalid_argument", "spec", "null");
  expect_error(fusedmlp_explain_json("gelu:8x8", 1, "cuda:4000"), "unavailable", "device", "cuda:4000");
  const ScopedEnv isa("FUSEDMLP_ISA", "mmx");
  expect_error(fusedmlp_info_json(), "invalid_argument", "FUSEDMLP_ISA", "mmx");
}

TEST(CApi, InfoListsTheCpuFirst) {
  const ScopedEnv isa("FUSEDMLP_ISA", "generic");
  const rapidjson::Document d = parse(fusedmlp_info_json());
  ASSERT_TRUE(d["ok"].GetBool());
  EXPECT_STREQ(d["version"].GetString(), version());
  ASSERT_GE(d["devices"].Size(), 1u);
  const auto& cpu = d["devices"][0];
  const DeviceInfo info = describe(Device::cpu()).value();
  EXPECT_STREQ(cpu["device"].GetString(), "cpu");
  EXPECT_EQ(cpu["name"].GetString(), info.name);
  EXPECT_STREQ(cpu["isa"].GetString(), "generic");
  EXPECT_EQ(cpu["cores"].GetInt(), info.cores);
  EXPECT_EQ(cpu["l2_bytes"].GetUint64(), info.l2_bytes);
  EXPECT_EQ(cpu["flops_per_core"]["bf16"].GetDouble(), info.flops_per_core[1]);
  EXPECT_EQ(cpu["memory_bandwidth"].GetDouble(), info.memory_bandwidth);
  EXPECT_STREQ(cpu["basis"].GetString(), "modelled");
}

TEST(CApi, ExplainListsEveryEntryAndTheChosen) {
  const ScopedEnv kernel("FUSEDMLP_KERNEL", "reference");
  const rapidjson::Document d = parse(fusedmlp_explain_json("geglu:64x128,bf16", 5, "cpu"));
  ASSERT_TRUE(d["ok"].GetBool());
  EXPECT_STREQ(d["spec"].GetString(), "geglu:64x128,bf16");
  EXPECT_EQ(d["tokens"].GetInt64(), 5);
  EXPECT_STREQ(d["device"].GetString(), "cpu");
  EXPECT_STREQ(d["chosen"].GetString(), "reference");
  EXPECT_GT(d["limit_us"].GetDouble(), 0);
  EXPECT_GE(d["predicted_us"].GetDouble(), d["limit_us"].GetDouble());
  const auto entries = d["entries"].GetArray();
  ASSERT_GE(entries.Size(), 1u);
  int chosen = 0;
  for (const auto& entry : entries) {
    chosen += entry["chosen"].GetBool() ? 1 : 0;
    EXPECT_TRUE(entry["predicted_us"].IsNumber() || entry["predicted_us"].IsNull());
    EXPECT_EQ(entry["predicted_us"].IsNull(), std::strcmp(entry["basis"].GetString(), "unsupported") == 0);
    EXPECT_EQ(entry["bound"].IsNull(), entry["predicted_us"].IsNull());
    EXPECT_GT(entry["reason"].GetStringLength(), 0u);
  }
  EXPECT_EQ(chosen, 1);
  EXPECT_STREQ(entries[entries.Size() - 1]["name"].GetString(), "reference");
}

TEST(CApi, TuneMeasuresEveryTokenCount) {
  const rapidjson::Document d = parse(fusedmlp_tune_json(
      R"({"specs": ["gelu:33x65,bf16"], "tokens": [6, 1], "threads": 1, "dry_run": true, "repeats": 1, "min_time": 0})"));
  ASSERT_TRUE(d["ok"].GetBool());
  EXPECT_EQ(d["threads"].GetInt(), 1);
  EXPECT_TRUE(d["packed"].GetBool());
  EXPECT_TRUE(d["written"].IsNull());
  const auto results = d["results"].GetArray();
  ASSERT_EQ(results.Size(), 2u);
  EXPECT_STREQ(results[0]["spec"].GetString(), "gelu:33x65,bf16");
  EXPECT_EQ(results[0]["tokens"].GetInt(), 1);
  EXPECT_EQ(results[1]["bucket"].GetInt(), 8);
  for (const auto& result : results) {
    const double fastest = result["us"][result["fastest"].GetString()].GetDouble();
    for (const auto& [kernel, us] : result["us"].GetObject())
      EXPECT_GE(us.GetDouble(), fastest) << kernel.GetString();
    EXPECT_TRUE(result["us"].HasMember("reference"));
  }
}

TEST(CApi, TuneSaysWhatIsWrongWithARequest) {
  const auto refused = [](const char* request, const char* argument, const char* part) {
    expect_error(fusedmlp_tune_json(request), "invalid_argument", argument, part);
  };
  refused(nullptr, "request", "null");
  refused("{", "request", "is not JSON");
  refused("[]", "request", "must be a JSON object");
  refused("{}", "specs", "at least one text");
  refused(R"({"specs": []})", "specs", "at least one text");
  refused(R"({"specs": "gelu:8x8"})", "specs", "must be an array");
  refused(R"({"specs": ["gelu:8"]})", "spec", "character 7");
  refused(R"({"specs": ["gelu:8x8"], "tokens": [0]})", "tokens", "from 1 to 16777216");
  refused(R"({"specs": ["gelu:8x8"], "tokens": 5})", "tokens", "must be an array");
  refused(R"({"specs": ["gelu:8x8"], "threads": 5000})", "threads", "from 0 to 4096");
  refused(R"({"specs": ["gelu:8x8"], "packed": 1})", "packed", "true or false");
  refused(R"({"specs": ["gelu:8x8"], "min_time": -1})", "min_time", "from 0 to 3600");
  refused(R"({"specs": ["gelu:8x8"], "speed\n": 1})", "request", "no member \"speed\\x0a\"");
  refused(R"({"specs": ["gelu:8x8"]})", "FUSEDMLP_TUNED", "off");
}

}  // namespace
}  // namespace fusedmlp
