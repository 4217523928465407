// Runs a fuzz target without a fuzzer: every file of the folders named, then fixed mutations of them.
//   replay FOLDER... [--mutations=N]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

std::uint64_t g_state = 1;

std::uint64_t below(std::uint64_t n) {  // SplitMix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = (g_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (z ^ (z >> 31)) % n;
}

// Cuts, repeats, splices, and changes bytes, mostly into those that the inputs are made of.
Bytes mutate(const std::vector<Bytes>& corpus) {
  static constexpr std::string_view kAlphabet = "0123456789x:+,->=._abcdefghilmnopqrstuw\"{}[]\\<() \t\n\0\xff";
  Bytes out = corpus[below(corpus.size())];
  for (std::uint64_t step = below(4) + 1; step > 0; --step) {
    const auto at = [&] { return static_cast<std::ptrdiff_t>(below(out.size() + 1)); };
    switch (below(5)) {
      case 0:
        if (!out.empty()) out[below(out.size())] = static_cast<std::uint8_t>(kAlphabet[below(kAlphabet.size())]);
        break;
      case 1: out.insert(out.begin() + at(), static_cast<std::uint8_t>(kAlphabet[below(kAlphabet.size())])); break;
      case 2: out.resize(static_cast<std::size_t>(at())); break;
      case 3: {
        const Bytes& other = corpus[below(corpus.size())];
        const auto from = static_cast<std::ptrdiff_t>(below(other.size() + 1));
        out.resize(static_cast<std::size_t>(at()));
        out.insert(out.end(), other.begin() + from, other.end());
        break;
      }
      default:
        if (!out.empty()) out[below(out.size())] ^= static_cast<std::uint8_t>(1u << below(8));
    }
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kMutations = "--mutations=";
  std::vector<Bytes> corpus;
  long mutations = 100000;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kMutations)) {
      mutations = std::atol(argv[i] + kMutations.size());
      continue;
    }
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(argument, error)) {
      std::ifstream file(entry.path(), std::ios::binary);
      corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "replay: no input files; usage: replay FOLDER... [--mutations=N]\n");
    return 2;
  }
  for (const Bytes& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  for (long i = 0; i < mutations; ++i) {
    const Bytes input = mutate(corpus);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("replay: %zu inputs and %ld mutations, no failure\n", corpus.size(), mutations);
  return 0;
}
