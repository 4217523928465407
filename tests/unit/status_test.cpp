#include "fusedmlp/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#include "core/guarded.h"
#include "core/text.h"

namespace fusedmlp {
namespace {

TEST(Status, PrintsOnlyWhatItHas) {
  EXPECT_EQ(Status().to_string(), "ok");
  EXPECT_TRUE(Status().ok());
  const Status wrong(StatusCode::invalid_argument, "tokens", "must be >= 0, got -3");
  EXPECT_FALSE(static_cast<bool>(wrong));
  EXPECT_EQ(wrong.to_string(), "invalid_argument: tokens: must be >= 0, got -3");
  EXPECT_EQ(Status(StatusCode::out_of_memory, "", "gone").to_string(), "out_of_memory: gone");
}

TEST(Status, CopiesKeepTheirWords) {
  Status first(StatusCode::unsupported, "device", "no kernel");
  const Status copy = first;
  Status moved = std::move(first);
  first = Status();
  EXPECT_EQ(copy.to_string(), "unsupported: device: no kernel");
  EXPECT_EQ(moved.argument(), "device");
  moved = Status(StatusCode::internal, "", "");
  EXPECT_FALSE(moved.ok());
  for (const Status* wordless : {&first, &moved}) {
    EXPECT_EQ(wordless->argument(), "");
    EXPECT_EQ(wordless->message(), "");
  }
}

TEST(Status, EveryCodeHasItsName) {
  EXPECT_STREQ(to_string(StatusCode::unsupported), "unsupported");
  EXPECT_STREQ(to_string(StatusCode::unavailable), "unavailable");
  EXPECT_STREQ(to_string(StatusCode::internal), "internal");
  EXPECT_STREQ(to_string(static_cast<StatusCode>(99)), "unknown");
}

TEST(Result, HoldsAValueOrAStatus) {
  Result<std::unique_ptr<int>> value = std::make_unique<int>(3);
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(**value, 3);
  EXPECT_EQ(*std::move(value).value(), 3);
  const Result<int> failed = Status(StatusCode::unsupported, "a", "b");
  EXPECT_FALSE(failed.ok());
  EXPECT_EQ(failed.status().argument(), "a");
  const Result<int> nonsense = Status();
  EXPECT_EQ(nonsense.status().code(), StatusCode::internal);
}

TEST(Guarded, TurnsExceptionsIntoStatus) {
  EXPECT_EQ(core::guarded([]() -> Status { throw std::bad_alloc(); }).code(), StatusCode::out_of_memory);
  const Status status = core::guarded([]() -> Status { throw std::runtime_error("what"); });
  EXPECT_EQ(status.to_string(), "internal: what");
  EXPECT_EQ(*core::guarded([]() -> Result<int> { return 4; }), 4);
}

TEST(Quoted, ShowsAnyBytesOnOneLine) {
  EXPECT_EQ(core::quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(core::quoted("\t\x7f\xc3"), "\"\\x09\\x7f\\xc3\"");
  EXPECT_EQ(core::quoted("abcdef", 3), "\"abc...\"");
  EXPECT_EQ(core::quoted(""), "\"\"");
}

}  // namespace
}  // namespace fusedmlp
