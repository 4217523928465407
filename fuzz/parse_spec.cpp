// The parser of spec texts on any bytes at all. It may refuse, with a reason; what it accepts is valid and survives
// being printed and read again.
//   clang++ -std=c++20 -fsanitize=fuzzer,address,undefined ... fuzz/parse_spec.cpp    then run it on
//   fuzz/corpus/parse_spec with fuzz/replay_main.cpp instead of -fsanitize=fuzzer: the corpus and fixed mutations of
//   it, by any compiler
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fusedmlp/spec.h"

namespace {

void expect(bool condition, const char* what, std::string_view text) {
  if (condition) return;
  std::fprintf(stderr, "parse_spec broke \"%s\" on \"%.*s\"\n", what, static_cast<int>(text.size()), text.data());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fusedmlp;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<MlpSpec> spec = parse_spec(text);
  if (!spec) {
    expect(spec.status().code() == StatusCode::invalid_argument, "a refusal is an invalid_argument", text);
    expect(!spec.status().message().empty(), "a refusal has a reason", text);
    expect(spec.status().message().size() < 4096, "a reason is short, whatever the text", text);
    return 0;
  }
  expect(validate(*spec).ok(), "an accepted spec is valid", text);
  const std::string canonical = to_string(*spec);
  const Result<MlpSpec> again = parse_spec(canonical);
  expect(again.ok(), "the canonical text is accepted", text);
  expect(*again == *spec, "the canonical text means the same", text);
  expect(to_string(*again) == canonical, "the canonical text is canonical", text);
  expect(hash(*again) == hash(*spec), "equal specs have equal hashes", text);
  expect(weight_elements(*spec) > 0, "the weights can be counted", text);
  expect(std::isfinite(flops(*spec, 1 << 20)), "the arithmetic can be counted", text);
  return 0;
}
