#include <gtest/gtest.h>

#include "fusedmlp/analysis.h"

namespace fusedmlp {
namespace {

TEST(ExplainKernel, KnownName) {
  const Result<std::string> words = explain_kernel("attn_fwd");
  ASSERT_TRUE(words);
  EXPECT_EQ(*words, "attention (AOTriton or Triton)");
}

TEST(ExplainKernel, UnknownNameIsUnsupportedAndSaysWhatIsCertain) {
  const Result<std::string> words = explain_kernel("_ZN4mine4gemmEv");
  ASSERT_FALSE(words);
  EXPECT_EQ(words.status().code(), StatusCode::unsupported);
  EXPECT_EQ(words.status().argument(), "name");
  EXPECT_EQ(
      words.status().message(),
      "\"_ZN4mine4gemmEv\" is of no kernel family that is known; certain is: the mangled name of \"mine::gemm\", "
      "a C++ function in \"mine\"");
}

TEST(ExplainKernel, NoNameIsAnInvalidArgument) {
  for (const char* name : {"", " ", "\t\n"}) {
    const Result<std::string> words = explain_kernel(name);
    ASSERT_FALSE(words);
    EXPECT_EQ(words.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(words.status().argument(), "name");
  }
}

}  // namespace
}  // namespace fusedmlp
