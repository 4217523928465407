#include "core/host_problem.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "core/numeric.h"

namespace fusedmlp::core {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): any seed is a good seed.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n)); }
  // Box and Muller, both values used.
  float normal() {
    if (have_) {
      have_ = false;
      return spare_;
    }
    const float u = (static_cast<float>(bits() >> 40) + 1) * 0x1p-24f;
    const float angle = static_cast<float>(bits() >> 40) * (0x1p-24f * 2 * std::numbers::pi_v<float>);
    const float radius = std::sqrt(-2 * std::log(u));
    spare_ = radius * std::sin(angle);
    have_ = true;
    return radius * std::cos(angle);
  }

 private:
  std::uint64_t state_;
  float spare_ = 0;
  bool have_ = false;
};

void fill_normal(Random& random, DType dtype, void* data, std::int64_t n, float scale) {
  for (std::int64_t i = 0; i < n; ++i) store(dtype, data, i, scale * random.normal());
}

// Each row gets `count` entries of +-1; the rest is zero.
void fill_sparse(Random& random, DType dtype, void* data, std::int64_t rows, std::int64_t cols, int count) {
  std::memset(data, 0, static_cast<std::size_t>(rows * cols) * size_of(dtype));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (int i = 0; i < count; ++i) {
      store(dtype, data, r * cols + random.below(cols), random.below(2) == 0 ? -1.0f : 1.0f);
    }
  }
}

void fill_small(Random& random, DType dtype, void* data, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) store(dtype, data, i, static_cast<float>(random.below(3) - 1));
}

}  // namespace

// The bytes in order: gate, up (rows as the spec's gate order says if joined), down, and the biases likewise.
void HostWeights::place(const MlpSpec& spec, bool joined) {
  spec_ = spec;
  joined_ = joined && spec.gated;
  auto* next = static_cast<std::byte*>(memory_.data());
  const auto take_bytes = [&](std::int64_t elements) {
    std::byte* at = next;
    next += static_cast<std::size_t>(elements) * size_of(spec.dtype);
    return at;
  };
  const std::int64_t hidden = spec.d_hidden;
  if (joined_) {
    views_.gate_up = MatrixView::out_in(take_bytes(2 * hidden * spec.d_in), 2 * hidden, spec.d_in);
  } else {
    if (spec.gated) views_.gate = MatrixView::out_in(take_bytes(hidden * spec.d_in), hidden, spec.d_in);
    views_.up = MatrixView::out_in(take_bytes(hidden * spec.d_in), hidden, spec.d_in);
  }
  views_.down = MatrixView::out_in(take_bytes(spec.d_out * hidden), spec.d_out, hidden);
  if (joined_) {
    if (spec.bias_gate) views_.bias_gate_up = {take_bytes(2 * hidden), 2 * hidden, 1};
  } else {
    if (spec.bias_gate) views_.bias_gate = {take_bytes(hidden), hidden, 1};
    if (spec.bias_up) views_.bias_up = {take_bytes(hidden), hidden, 1};
  }
  if (spec.bias_down) views_.bias_down = {take_bytes(spec.d_out), spec.d_out, 1};
}

HostWeights::HostWeights(const MlpSpec& spec, Data data, std::uint64_t seed, bool joined)
    : memory_(static_cast<std::size_t>(weight_elements(spec)) * size_of(spec.dtype)) {
  place(spec, joined);
  Random random(seed);
  const auto matrix = [&](const MatrixView& m, int nonzeros) {
    if (m.data == nullptr) return;
    void* to = const_cast<void*>(m.data);  // memory_ is ours; only the views are const
    if (data == Data::integer) {
      fill_sparse(random, spec.dtype, to, m.rows, m.cols, nonzeros);
    } else {
      fill_normal(random, spec.dtype, to, m.rows * m.cols, 1 / std::sqrt(static_cast<float>(m.cols)));
    }
  };
  const auto vector = [&](const VectorView& v) {
    if (v.data == nullptr) return;
    void* to = const_cast<void*>(v.data);
    if (data == Data::integer) {
      fill_small(random, spec.dtype, to, v.size);
    } else {
      fill_normal(random, spec.dtype, to, v.size, 1);
    }
  };
  // Two entries a hidden unit: |z| <= 3 with a bias, |h| <= 9 (relu2) or 27 (gated), eight of them and a bias <= 217:
  // every integer up to 256 is a bf16.
  matrix(views_.gate, 2);
  matrix(views_.up, 2);
  matrix(views_.gate_up, 2);
  matrix(views_.down, 8);
  vector(views_.bias_gate);
  vector(views_.bias_up);
  vector(views_.bias_gate_up);
  vector(views_.bias_down);
}

HostWeights HostWeights::duplicate() const {
  HostWeights out;
  out.memory_ = AlignedBuffer(memory_.size());
  std::memcpy(out.memory_.data(), memory_.data(), memory_.size());
  out.place(spec_, joined_);
  return out;
}

AlignedBuffer make_input(const MlpSpec& spec, std::int64_t tokens, Data data, std::uint64_t seed) {
  AlignedBuffer out(static_cast<std::size_t>(tokens * spec.d_in) * size_of(spec.dtype));
  Random random(seed ^ 0x5851f42d4c957f2du);  // not the weights' numbers again
  if (data == Data::integer) {
    fill_small(random, spec.dtype, out.data(), tokens * spec.d_in);
  } else {
    fill_normal(random, spec.dtype, out.data(), tokens * spec.d_in, 1);
  }
  return out;
}

Result<AlignedBuffer> pack_weights(const KernelEntry& entry, const MlpSpec& spec, const MlpWeights& weights,
                                   const DeviceInfo& device, Executor& executor) {
  if (entry.layout == nullptr) return AlignedBuffer();
  AlignedBuffer out(entry.layout->bytes(spec, device));
  if (Status status = entry.layout->pack(spec, weights, device, out.data(), executor); !status) return status;
  return out;
}

}  // namespace fusedmlp::core
