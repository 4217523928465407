// An MLP with its weights in any layout and any memory, its input, and every way this machine can run it.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "fusedmlp/fusedmlp.h"
#include "numerics/memory.h"
#include "reference/error_bound.h"

namespace fusedmlp {

// What gtest shows of a parameter.
inline void PrintTo(const MlpSpec& spec, std::ostream* out) {
  *out << form_name(spec.activation, spec.gated) << ' ' << to_string(spec.dtype);
}

}  // namespace fusedmlp

namespace fusedmlp::test {

// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits();
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n)); }
  float normal();
  template <class T, std::size_t N>
  const T& pick(const T (&list)[N]) {
    return list[below(static_cast<std::int64_t>(N))];
  }

 private:
  std::uint64_t state_;
};

enum class Data {
  normal,   // x, biases ~ N(0, 1); weights ~ N(0, 1 / inputs)
  integer,  // sparse -1, 0, 1: with identity, relu and relu2 exact in bf16 all the way (|y| <= 217)
};

struct Layout {
  bool joined = false;       // gate and up in one matrix, in the spec's order
  bool in_out = false;       // [in, out], as Conv1D keeps it
  std::int64_t padding = 0;  // elements between rows, poisoned
  std::int64_t bias_stride = 1;
  bool misaligned = false;  // every pointer is an odd number of elements past a boundary
  bool aligned = false;     // addresses and row strides are multiples of 16 bytes, as native GPU kernels want them
};

// Logical values, the same in every layout.
struct Values {
  std::vector<float> x, gate, up, down, bias_gate, bias_up, bias_down;
};

Values make_values(const MlpSpec& spec, std::int64_t tokens, Data data, std::uint64_t seed);

// Values put into memory as a layout says.
struct Placed {
  MlpWeights weights;
  const void* x = nullptr;
  std::int64_t ldx = 0;
  std::int64_t ldy = 0;  // the padding and alignment of x
};

Placed place(const MlpSpec& spec, const Values& values, std::int64_t tokens, const Layout& layout, Memory& memory);

// One way to run: an instruction set, a registry entry, packed weights or the caller's; or an entry of a GPU.
struct Way {
  Isa isa;
  std::string kernel;
  bool packed;
  Device device = {};
  // Every layer's output is rounded to the storage type.
  bool is_reference() const { return kernel == "reference" || kernel == "cuda.layers"; }
  friend bool operator==(const Way&, const Way&) = default;
};
std::string to_string(const Way& way);

// Every way that supports the spec on this machine's CPU, the reference first of each instruction set.
std::vector<Way> cpu_ways(const MlpSpec& spec, std::int64_t tokens);

// The same, and every entry of the first GPU, if there is one, that takes operands which lie like these. With
// FUSEDMLP_TEST_DEVICE=cuda the CPU's reference and the GPU's entries alone.
std::vector<Way> ways(const MlpSpec& spec, const Placed& placed, std::int64_t tokens);
bool gpu_only();

// Forces a way by the environment, as a user would, until the end of the scope. Not while other threads run.
class Forced {
 public:
  explicit Forced(const Way& way);
  ~Forced();
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;
};

// y of one way through a Plan, dense, in the spec's dtype. On a GPU the operands are copied to guarded device
// memory with the alignment they have here.
std::vector<std::byte> run(const Way& way, const MlpSpec& spec, const Placed& placed, std::int64_t tokens,
                           Executor* executor = nullptr);

// Runs every way and holds it against fp64: the norm against the reference's, each element against its bound, NaN
// and infinities in their places. Failures are gtest's, with everything needed to see the case again.
void expect_accurate(const MlpSpec& spec, const Values& values, const Layout& layout, std::int64_t tokens);

// Which gate order and whether joined; a plain MLP has one form only.
struct Packing {
  GateOrder order;
  bool joined;
};
std::vector<Packing> packings(const MlpSpec& spec);

// Every combination of biases that the packing allows: joined weights have both hidden biases or none.
std::vector<MlpSpec> with_biases(MlpSpec spec, const Packing& packing);

// Every spec of a form: dtype x activation x gated.
std::vector<MlpSpec> all_forms();

}  // namespace fusedmlp::test
