// The decoder of kernel names on any bytes at all: it never fails, an unknown name has no words, and what it finds is
// plausible.
//   clang++ -std=c++20 -fsanitize=fuzzer,address,undefined ... fuzz/kernel_name.cpp, as fuzz/parse_spec.cpp
#include "trace/kernel_name.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

void expect(bool condition, const char* what, std::string_view name) {
  if (condition) return;
  std::fprintf(stderr, "decode broke \"%s\" on \"%.*s\"\n", what, static_cast<int>(name.size()), name.data());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fusedmlp::trace;
  const std::string_view name(reinterpret_cast<const char*>(data), size);
  const KernelName decoded = decode(name);
  if (decoded.family == Family::unknown) {
    expect(decoded.words.empty(), "an unknown name has no words", name);
    expect(decoded.work == Work::unknown, "an unknown name does no known work", name);
  } else {
    expect(!decoded.words.empty(), "a known name has words", name);
  }
  for (const std::optional<int>& number : {decoded.sm, decoded.tile_m, decoded.tile_n, decoded.tile_k, decoded.stages,
                                           decoded.cluster_m, decoded.cluster_n}) {
    expect(!number || *number >= 0, "a size is not negative", name);
  }
  expect(decoded.words == decode(name).words, "the same name says the same", name);
  return 0;
}
