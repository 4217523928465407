// MLPs with made-up weights in every layout, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/numeric.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp::test {

// Elements of a storage type, read and written as float.
class Elements {
 public:
  Elements(DType dtype, std::int64_t size) : dtype_(dtype), bytes_(static_cast<std::size_t>(size) * size_of(dtype)) {}

  void set(std::int64_t i, float value) { core::store(dtype_, bytes_.data(), i, value); }
  float get(std::int64_t i) const { return core::load(dtype_, bytes_.data(), i); }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  DType dtype_;
  std::vector<std::byte> bytes_;
};

enum class Layout { out_in, in_out, padded };  // padded: [out, in] with longer rows, biases with stride 2

// value(member, row, col) of the logical matrices; biases have col 0.
enum class Member { x, gate, up, down, bias_gate, bias_up, bias_down };
using Values = std::function<float(Member, std::int64_t row, std::int64_t col)>;

inline std::uint32_t scramble(Member member, std::int64_t row, std::int64_t col, std::uint32_t seed) {
  std::uint64_t state = (static_cast<std::uint64_t>(row) << 32) ^ (static_cast<std::uint64_t>(col) << 8) ^
                        static_cast<std::uint64_t>(member) ^ (std::uint64_t{seed} << 48);
  for (int i = 0; i < 3; ++i) {
    state = (state ^ (state >> 29)) * 0xbf58476d1ce4e5b9u;
    state ^= state >> 32;
  }
  return static_cast<std::uint32_t>(state);
}

// Uniform in [-1, 1), the same for every layout.
inline Values uniform(std::uint32_t seed = 1) {
  return [seed](Member member, std::int64_t row, std::int64_t col) {
    return static_cast<float>(scramble(member, row, col, seed) >> 8) * 0x1p-23f - 1.0f;
  };
}

// Sparse -1, 0, 1: products and sums stay exact in every type.
inline Values small_integers(std::uint32_t seed = 1) {
  return [seed](Member member, std::int64_t row, std::int64_t col) {
    const std::uint32_t bits = scramble(member, row, col, seed);
    return bits % 16 == 0 ? 1.0f : bits % 16 == 1 ? -1.0f : 0.0f;
  };
}

// Owns what its weights point to.
class Mlp {
 public:
  Mlp(const MlpSpec& spec, const Values& values, Layout layout = Layout::out_in, bool gate_up_packed = false)
      : spec_(spec), layout_(layout) {
    const auto plain = [&](Member member) {
      return [&values, member](std::int64_t row, std::int64_t col) { return values(member, row, col); };
    };
    const auto both = [&](Member gate, Member up) {
      return [this, &values, gate, up](std::int64_t row, std::int64_t col) {
        const bool interleaved = spec_.gate_order == GateOrder::interleaved;
        const bool second = interleaved ? row % 2 != 0 : row >= spec_.d_hidden;
        const bool is_up = second != (spec_.gate_order == GateOrder::last);
        return values(is_up ? up : gate, interleaved ? row / 2 : row % spec_.d_hidden, col);
      };
    };
    if (spec.gated && gate_up_packed) {
      weights.gate_up = matrix(2 * spec.d_hidden, spec.d_in, both(Member::gate, Member::up));
      if (spec.bias_up) weights.bias_gate_up = vector(2 * spec.d_hidden, both(Member::bias_gate, Member::bias_up));
    } else {
      weights.up = matrix(spec.d_hidden, spec.d_in, plain(Member::up));
      if (spec.bias_up) weights.bias_up = vector(spec.d_hidden, plain(Member::bias_up));
      if (spec.gated) weights.gate = matrix(spec.d_hidden, spec.d_in, plain(Member::gate));
      if (spec.bias_gate) weights.bias_gate = vector(spec.d_hidden, plain(Member::bias_gate));
    }
    weights.down = matrix(spec.d_out, spec.d_hidden, plain(Member::down));
    if (spec.bias_down) weights.bias_down = vector(spec.d_out, plain(Member::bias_down));
  }
  Mlp(const Mlp&) = delete;
  Mlp& operator=(const Mlp&) = delete;

  const MlpSpec& spec() const { return spec_; }

  MlpWeights weights;

 private:
  template <class Value>
  MatrixView matrix(std::int64_t rows, std::int64_t cols, const Value& value) {
    MatrixView view = MatrixView::out_in(nullptr, rows, cols);
    if (layout_ == Layout::in_out) view = MatrixView::in_out(nullptr, cols, rows);
    if (layout_ == Layout::padded) view.row_stride = cols + 3;
    Elements& out = storage_.emplace_back(spec_.dtype, (rows + 1) * (cols + 3));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) out.set(r * view.row_stride + c * view.col_stride, value(r, c));
    }
    view.data = out.data();
    return view;
  }

  template <class Value>
  VectorView vector(std::int64_t size, const Value& value) {
    VectorView view{nullptr, size, layout_ == Layout::padded ? 2 : 1};
    Elements& out = storage_.emplace_back(spec_.dtype, size * view.stride);
    for (std::int64_t i = 0; i < size; ++i) out.set(i * view.stride, value(i, 0));
    view.data = out.data();
    return view;
  }

  MlpSpec spec_;
  Layout layout_;
  std::deque<Elements> storage_;
};

inline Elements make_x(const MlpSpec& spec, std::int64_t tokens, const Values& values) {
  Elements x(spec.dtype, tokens * spec.d_in);
  for (std::int64_t i = 0; i < tokens * spec.d_in; ++i) x.set(i, values(Member::x, i / spec.d_in, i % spec.d_in));
  return x;
}

// A CPU that is nowhere.
inline DeviceInfo make_device() {
  DeviceInfo info;
  info.name = "Test CPU";
  info.isa = Isa::avx2;
  info.cores = 2;
  info.l2_bytes = 1 << 20;
  info.l2_bandwidth_per_core = 100e9;
  for (double& rate : info.flops_per_core) rate = 100e9;
  return info;
}

// Sets an environment variable (null: removes it) for a scope.
class ScopedEnv {
 public:
  ScopedEnv(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    apply(value);
  }
  ~ScopedEnv() { apply(before_ ? before_->c_str() : nullptr); }
  ScopedEnv(const ScopedEnv&) = delete;
  ScopedEnv& operator=(const ScopedEnv&) = delete;

 private:
  void apply(const char* value) {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace fusedmlp::test
