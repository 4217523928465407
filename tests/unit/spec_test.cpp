#include "fusedmlp/spec.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <unordered_set>

namespace fusedmlp {
namespace {

TEST(Spec, ReadsTheExamplesOfTheGrammar) {
  const MlpSpec geglu = parse_spec("geglu:768x3072").value();
  EXPECT_EQ(geglu.d_in, 768);
  EXPECT_EQ(geglu.d_hidden, 3072);
  EXPECT_EQ(geglu.d_out, 768);
  EXPECT_EQ(geglu.activation, Activation::gelu);
  EXPECT_TRUE(geglu.gated);
  EXPECT_EQ(geglu.dtype, DType::f32);
  EXPECT_FALSE(geglu.bias_gate || geglu.bias_up || geglu.bias_down);

  const MlpSpec gelu = parse_spec("gelu:1024x4096+bias,bf16").value();
  EXPECT_FALSE(gelu.gated);
  EXPECT_FALSE(gelu.bias_gate);
  EXPECT_TRUE(gelu.bias_up && gelu.bias_down);
  EXPECT_EQ(gelu.dtype, DType::bf16);

  EXPECT_EQ(parse_spec("relu2:768x3072->1000").value().d_out, 1000);

  const MlpSpec oai =
      parse_spec("swiglu_oai:8x16->4+bias_gate+bias_down,fp16,gate=interleaved,alpha=1.5,limit=3").value();
  EXPECT_TRUE(oai.bias_gate && !oai.bias_up && oai.bias_down);
  EXPECT_EQ(oai.gate_order, GateOrder::interleaved);
  EXPECT_EQ(oai.alpha, 1.5f);
  EXPECT_EQ(oai.limit, 3.0f);
}

TEST(Spec, PrintsTheCanonicalForm) {
  const std::pair<const char*, const char*> forms[] = {
      {"gelu:64x256", "gelu:64x256"},
      {"gelu:64x256->64", "gelu:64x256"},
      {"gelu:064x256,fp32", "gelu:64x256"},
      {"gelu:64x256+bias_down+bias_up", "gelu:64x256+bias"},
      {"glu:64x256+bias_down+bias_up", "glu:64x256+bias_up+bias_down"},
      {"glu:64x256+bias_down+bias_up+bias_gate", "glu:64x256+bias"},
      {"glu:64x256,gate=first,bfloat16", "glu:64x256,bf16"},
      {"glu:64x256,gate=last,f16", "glu:64x256,fp16,gate=last"},
      {"swiglu_oai:64x256,limit=7.0,alpha=1.702", "swiglu_oai:64x256"},
      {"swiglu_oai:64x256,limit=1e1,alpha=-0.5", "swiglu_oai:64x256,alpha=-0.5,limit=10"},
  };
  for (const auto& [text, canonical] : forms) {
    const Result<MlpSpec> spec = parse_spec(text);
    ASSERT_TRUE(spec.ok()) << text << ": " << spec.status().to_string();
    EXPECT_EQ(to_string(*spec), canonical) << text;
  }
}

TEST(Spec, EveryFormRoundTrips) {
  std::mt19937 random(7);
  const auto flip = [&] { return random() % 2 == 0; };
  const auto width = [&] { return 1 + static_cast<std::int64_t>(random() % (flip() ? 16u : 1u << 24)); };
  for (int round = 0; round < 20000; ++round) {
    MlpSpec spec;
    spec.d_in = width();
    spec.d_hidden = width();
    spec.d_out = flip() ? spec.d_in : width();
    spec.activation = static_cast<Activation>(random() % kActivationCount);
    spec.gated = spec.activation == Activation::swiglu_oai || flip();
    if (spec.gated) spec.gate_order = static_cast<GateOrder>(random() % 3);
    spec.bias_gate = spec.gated && flip();
    spec.bias_up = flip();
    spec.bias_down = flip();
    spec.dtype = static_cast<DType>(random() % kDTypeCount);
    if (spec.activation == Activation::swiglu_oai && flip()) {
      spec.alpha = std::uniform_real_distribution<float>(-1e3f, 1e3f)(random);
      spec.limit = std::uniform_real_distribution<float>(1e-6f, 1e6f)(random);
    }
    ASSERT_TRUE(validate(spec).ok()) << to_string(spec);
    const std::string text = to_string(spec);
    const Result<MlpSpec> again = parse_spec(text);
    ASSERT_TRUE(again.ok()) << text << ": " << again.status().to_string();
    ASSERT_EQ(*again, spec) << text;
    ASSERT_EQ(to_string(*again), text);
    ASSERT_EQ(hash(*again), hash(spec));
  }
}

TEST(Spec, RefusalsSayWhereWhatAndWhatIsAccepted) {
  const std::string plain_forms =
      "identity, relu, relu2, gelu, gelu_tanh, quick_gelu, silu, sigmoid, bilinear, reglu, "
      "relu2glu, geglu, geglu_tanh, quick_geglu, swiglu, glu, swiglu_oai";
  const std::string width = "a width from 1 to 16777216";
  const std::string dtypes = "fp32, bf16, fp16";
  const std::string gated_options = dtypes + ", gate=first|last|interleaved";
  const std::string plain_biases = "bias, bias_up or bias_down, each once";
  const std::string gated_biases = "bias, bias_gate, bias_up or bias_down, each once";
  const std::string next = "\"->D_OUT\", then \"+bias\", then \",\" and an option, or the end";
  const std::string hidden = "\"x\" and the hidden width, as in 768x3072";
  struct Case {
    std::string text;
    int character;
    std::string got;
    std::string accepted;
  };
  const Case cases[] = {
      {"", 1, "the end", plain_forms},
      {"gelo:8x8", 1, "\"gelo\"", plain_forms},
      {"GELU:8x8", 1, "\"GELU\"", plain_forms},
      {" gelu:8x8", 1, "\" gelu\"", plain_forms},
      {":8x8", 1, "\":\"", plain_forms},
      {"gelu", 5, "the end", "\":\" and the widths, as in geglu:768x3072"},
      {"gelu+bias", 5, "\"+\"", "\":\" and the widths, as in geglu:768x3072"},
      {"gelu:", 6, "the end", width},
      {"gelu:abx8", 6, "\"ab\"", width},
      {"gelu:x8", 6, "\"x\"", width},
      {"gelu:-8x8", 6, "\"-\"", width},
      {"gelu:0x8", 6, "\"0\"", width},
      {"gelu:16777217x8", 6, "\"16777217\"", width},
      {"gelu:99999999999999999999x8", 6, "\"99999999999999999999\"", width},
      {"gelu:8", 7, "the end", hidden},
      {"gelu:8*8", 7, "\"*8\"", hidden},
      {"gelu:8.5x8", 7, "\".5x8\"", hidden},
      {"gelu:8x", 8, "the end", width},
      {"gelu:8x0", 8, "\"0\"", width},
      {"gelu:8x8->", 11, "the end", width},
      {"gelu:8x8->0", 11, "\"0\"", width},
      {"gelu:8x8->x", 11, "\"x\"", width},
      {"gelu:8x8x8", 9, "\"x8\"", next},
      {"gelu:8x8-8", 9, "\"-8\"", next},
      {"gelu:8x8 ", 9, "\" \"", next},
      {"gelu:8x8\n", 9, "\"\\x0a\"", next},
      {"gelu:8x8+", 10, "the end", plain_biases},
      {"gelu:8x8+bias_gate", 10, "\"bias_gate\"", plain_biases},
      {"gelu:8x8+bias+bias", 15, "\"bias\"", plain_biases},
      {"gelu:8x8+bias_up+bias", 18, "\"bias\"", plain_biases},
      {"gelu:8x8+biases", 10, "\"biases\"", plain_biases},
      {"geglu:8x8+bias+bias_gate", 16, "\"bias_gate\"", gated_biases},
      {"geglu:8x8+bais", 11, "\"bais\"", gated_biases},
      {"gelu:8x8,", 10, "the end", dtypes},
      {"gelu:8x8,fp64", 10, "\"fp64\"", dtypes},
      {"gelu:8x8,gate=last", 10, "\"gate=last\"", dtypes},
      {"gelu:8x8,alpha=2", 10, "\"alpha=2\"", dtypes},
      {"gelu:8x8,bf16,fp16", 15, "\"fp16\"", "each option once"},
      {"gelu:8x8,bf16+bias", 10, "\"bf16+bias\"", dtypes},
      {"geglu:8x8,gate", 11, "\"gate\"", gated_options},
      {"geglu:8x8,gate=", 11, "\"gate=\"", "gate=first, gate=last or gate=interleaved"},
      {"geglu:8x8,gate=up", 11, "\"gate=up\"", "gate=first, gate=last or gate=interleaved"},
      {"geglu:8x8,gate=last,gate=last", 21, "\"gate=last\"", "each option once"},
      {"swiglu:8x8,limit=7", 12, "\"limit=7\"", gated_options},
      {"swiglu_oai:8x8,alpha=", 16, "\"alpha=\"", "alpha= and a finite number"},
      {"swiglu_oai:8x8,alpha=1.5x", 16, "\"alpha=1.5x\"", "alpha= and a finite number"},
      {"swiglu_oai:8x8,alpha=nan", 16, "\"alpha=nan\"", "alpha= and a finite number"},
      {"swiglu_oai:8x8,alpha=1e99", 16, "\"alpha=1e99\"", "alpha= and a finite number"},
      {"swiglu_oai:8x8,limit=inf", 16, "\"limit=inf\"", "limit= and a finite number > 0"},
      {"swiglu_oai:8x8,limit=0", 16, "\"limit=0\"", "limit= and a finite number > 0"},
      {"swiglu_oai:8x8,limit=-1", 16, "\"limit=-1\"", "limit= and a finite number > 0"},
      {"swiglu_oai:8x8,limit=1,limit=1", 24, "\"limit=1\"", "each option once"},
      {"swiglu_oai:8x8,beta=1", 16, "\"beta=1\"", gated_options + ", alpha=A, limit=L"},
  };
  for (const Case& c : cases) {
    const Result<MlpSpec> spec = parse_spec(c.text);
    ASSERT_FALSE(spec.ok()) << c.text;
    EXPECT_EQ(spec.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(spec.status().argument(), "spec");
    const std::string quoted = c.text == "gelu:8x8\n" ? "gelu:8x8\\x0a" : c.text;
    EXPECT_EQ(spec.status().message(), "character " + std::to_string(c.character) + " of \"" + quoted + "\": got " +
                                           c.got + ", accepted: " + c.accepted);
  }
}

TEST(Spec, HostileTextIsCutAndEscaped) {
  const std::string junk = std::string("gelu:") + std::string(10000, '9') + '\0' + "\xff";
  const Result<MlpSpec> spec = parse_spec(junk);
  ASSERT_FALSE(spec.ok());
  EXPECT_LT(spec.status().message().size(), 400u);
  const Result<MlpSpec> binary = parse_spec(std::string_view("\xff\0\"", 3));
  EXPECT_NE(binary.status().message().find("got \"\\xff\\x00\\\"\""), std::string::npos) << binary.status().message();
}

TEST(Spec, NoPrefixOrMutationCrashes) {
  const std::string text = "swiglu_oai:768x3072->1000+bias_gate+bias_up,bf16,gate=interleaved,alpha=1.5,limit=6";
  std::mt19937 random(3);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string mutant = text.substr(0, random() % (text.size() + 1));
    for (unsigned i = random() % 3; i > 0 && !mutant.empty(); --i) {
      mutant[random() % mutant.size()] = static_cast<char>(random() % 256);
    }
    const Result<MlpSpec> spec = parse_spec(mutant);
    if (!spec.ok()) continue;
    ++accepted;
    EXPECT_TRUE(validate(*spec).ok()) << mutant;
    EXPECT_EQ(parse_spec(to_string(*spec)).value(), *spec) << mutant;
  }
  EXPECT_GT(accepted, 100);
}

MlpSpec small() {
  MlpSpec spec;
  spec.d_in = 4;
  spec.d_hidden = 8;
  spec.d_out = 2;
  return spec;
}

TEST(Spec, ValidateNamesTheField) {
  EXPECT_TRUE(validate(small()).ok());
  const auto expect = [](const MlpSpec& spec, const char* text) { EXPECT_EQ(validate(spec).to_string(), text); };
  MlpSpec spec = small();
  spec.d_in = 0;
  expect(spec, "invalid_argument: d_in: must be from 1 to 16777216, got 0");
  spec = small();
  spec.d_hidden = -5;
  expect(spec, "invalid_argument: d_hidden: must be from 1 to 16777216, got -5");
  spec = small();
  spec.d_out = kMaxWidth + 1;
  expect(spec, "invalid_argument: d_out: must be from 1 to 16777216, got 16777217");
  spec = small();
  spec.activation = static_cast<Activation>(9);
  expect(spec, "invalid_argument: activation: must be an index below 9, got 9");
  spec = small();
  spec.dtype = static_cast<DType>(3);
  expect(spec, "invalid_argument: dtype: must be an index below 3, got 3");
  spec = small();
  spec.gate_order = static_cast<GateOrder>(200);
  expect(spec, "invalid_argument: gate_order: must be first, last or interleaved (0, 1, 2), got 200");
  spec = small();
  spec.bias_gate = true;
  expect(spec, "invalid_argument: bias_gate: a plain MLP has no gate: accepted is false");
  spec = small();
  spec.activation = Activation::swiglu_oai;
  expect(spec, "invalid_argument: activation: swiglu_oai is a gated form, got gated = false");
  spec.gated = true;
  EXPECT_TRUE(validate(spec).ok());
  spec.alpha = std::numeric_limits<float>::infinity();
  expect(spec, "invalid_argument: alpha: must be finite, got inf");
  spec.alpha = 0;
  spec.limit = 0;
  expect(spec, "invalid_argument: limit: must be finite and > 0, got 0");
  spec.limit = std::numeric_limits<float>::quiet_NaN();
  expect(spec, "invalid_argument: limit: must be finite and > 0, got nan");
}

TEST(Spec, NamesParseBack) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const DType dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(to_string(dtype)).value(), dtype);
  }
  for (int i = 0; i < kActivationCount; ++i) {
    const Activation activation = static_cast<Activation>(i);
    EXPECT_EQ(parse_activation(to_string(activation)).value(), activation);
  }
  EXPECT_EQ(
      parse_dtype("int8").status().to_string(),
      "invalid_argument: dtype: got \"int8\", accepted: fp32, float32, f32, bf16, bfloat16, fp16, float16, f16");
  EXPECT_EQ(
      parse_activation("mish").status().to_string(),
      "invalid_argument: activation: got \"mish\", accepted: identity, relu, relu2, gelu, gelu_tanh, quick_gelu, "
      "silu, sigmoid, swiglu_oai");
  EXPECT_EQ(parse_dtype("").status().argument(), "dtype");
}

TEST(Spec, SizesAndEpsilons) {
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::f16), 2u);
  EXPECT_EQ(epsilon(DType::f32), std::numeric_limits<float>::epsilon());
  EXPECT_EQ(epsilon(DType::bf16), 0x1p-7);
  EXPECT_EQ(epsilon(DType::f16), 0x1p-10);
}

TEST(Spec, CountsArithmeticAndWeights) {
  const MlpSpec plain = parse_spec("gelu:4x8->2+bias").value();
  EXPECT_EQ(weight_elements(plain), 4 * 8 + 8 * 2 + 8 + 2);
  EXPECT_EQ(flops(plain, 3), 2.0 * 3 * (4 * 8 + 8 * 2));
  const MlpSpec gated = parse_spec("geglu:4x8->2+bias").value();
  EXPECT_EQ(weight_elements(gated), 2 * 4 * 8 + 8 * 2 + 2 * 8 + 2);
  EXPECT_EQ(flops(gated, 3), 2.0 * 3 * (2 * 4 * 8 + 8 * 2));
  EXPECT_EQ(flops(gated, 0), 0.0);
  MlpSpec widest = small();
  widest.d_in = widest.d_hidden = widest.d_out = kMaxWidth;
  widest.gated = true;
  EXPECT_EQ(weight_elements(widest), 3 * kMaxWidth * kMaxWidth);
}

TEST(Spec, HashSpreadsEveryField) {
  std::unordered_set<std::size_t> seen;
  const auto add = [&](auto change) {
    MlpSpec spec = small();
    spec.activation = Activation::silu;
    spec.gated = true;
    change(spec);
    seen.insert(std::hash<MlpSpec>()(spec));
  };
  add([](MlpSpec&) {});
  add([](MlpSpec& s) { s.d_in = 5; });
  add([](MlpSpec& s) { s.d_hidden = 5; });
  add([](MlpSpec& s) { s.d_out = 5; });
  add([](MlpSpec& s) { s.activation = Activation::relu; });
  add([](MlpSpec& s) { s.gated = false; });
  add([](MlpSpec& s) { s.gate_order = GateOrder::last; });
  add([](MlpSpec& s) { s.bias_gate = true; });
  add([](MlpSpec& s) { s.bias_up = true; });
  add([](MlpSpec& s) { s.bias_down = true; });
  add([](MlpSpec& s) { s.dtype = DType::f16; });
  add([](MlpSpec& s) { s.alpha = 2; });
  add([](MlpSpec& s) { s.limit = 2; });
  EXPECT_EQ(seen.size(), 13u);
  MlpSpec zero = small();
  MlpSpec minus_zero = small();
  zero.alpha = 0.0f;
  minus_zero.alpha = -0.0f;
  EXPECT_EQ(zero, minus_zero);
  EXPECT_EQ(hash(zero), hash(minus_zero));
}

TEST(Spec, EveryFormHasItsName) {
  EXPECT_STREQ(form_name(Activation::identity, true), "bilinear");
  EXPECT_STREQ(form_name(Activation::silu, true), "swiglu");
  EXPECT_STREQ(form_name(Activation::sigmoid, true), "glu");
  EXPECT_STREQ(form_name(Activation::gelu_tanh, false), "gelu_tanh");
  std::unordered_set<std::string> names;
  for (int i = 0; i < kActivationCount; ++i) {
    for (const bool gated : {false, true}) names.insert(form_name(static_cast<Activation>(i), gated));
  }
  EXPECT_EQ(names.size(), 2u * kActivationCount - 1);  // swiglu_oai has one form
}

}  // namespace
}  // namespace fusedmlp
