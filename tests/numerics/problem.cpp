#include "numerics/problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "core/kernel.h"
#include "core/numeric.h"
#include "gpu/guarded_run.h"

namespace fusedmlp::test {

std::uint64_t Random::bits() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Four uniform numbers, scaled to variance 1: close enough to a normal distribution, and bounded.
float Random::normal() {
  const std::uint64_t b = bits();
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>((b >> (16 * i)) & 0xffffu) * 0x1p-16f;
  return (sum - 2) * 1.7320508f;
}

Values make_values(const MlpSpec& spec, std::int64_t tokens, Data data, std::uint64_t seed) {
  Random random(seed);
  // What the storage holds, so that every reader of it sees the same number.
  const auto rounded = [&](float value) {
    float stored = 0;
    core::store(spec.dtype, &stored, 0, value);
    return core::load(spec.dtype, &stored, 0);
  };
  const auto dense = [&](std::int64_t n, float scale) {
    std::vector<float> out(static_cast<std::size_t>(n));
    for (float& v : out) {
      v = data == Data::integer ? static_cast<float>(random.below(3) - 1) : rounded(scale * random.normal());
    }
    return out;
  };
  const auto matrix = [&](std::int64_t rows, std::int64_t cols, int nonzeros) {
    if (data == Data::normal) return dense(rows * cols, 1 / std::sqrt(static_cast<float>(cols)));
    std::vector<float> out(static_cast<std::size_t>(rows * cols));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (int i = 0; i < nonzeros; ++i) {
        out[static_cast<std::size_t>(r * cols + random.below(cols))] = random.below(2) == 0 ? -1.0f : 1.0f;
      }
    }
    return out;
  };
  Values v;
  v.x = dense(tokens * spec.d_in, 1);
  if (spec.gated) v.gate = matrix(spec.d_hidden, spec.d_in, 2);
  v.up = matrix(spec.d_hidden, spec.d_in, 2);
  v.down = matrix(spec.d_out, spec.d_hidden, 8);
  if (spec.bias_gate) v.bias_gate = dense(spec.d_hidden, 1);
  if (spec.bias_up) v.bias_up = dense(spec.d_hidden, 1);
  if (spec.bias_down) v.bias_down = dense(spec.d_out, 1);
  return v;
}

namespace {

class Placer {
 public:
  Placer(const MlpSpec& spec, const Layout& layout, Memory& memory) : spec_(spec), layout_(layout), memory_(memory) {}

  std::byte* take(std::int64_t elements) {
    const std::size_t size = size_of(spec_.dtype);
    // Element-aligned and no more: an alignment of two elements, one past it.
    if (layout_.misaligned) return memory_.take(static_cast<std::size_t>(elements) * size, 2 * size, size);
    if (layout_.aligned) return memory_.take(static_cast<std::size_t>(elements) * size, 16);
    return memory_.take(static_cast<std::size_t>(elements) * size, size);
  }

  // Elements from one row of `cols` to the next.
  std::int64_t row(std::int64_t cols) const {
    const std::int64_t unit = layout_.aligned ? 16 / static_cast<std::int64_t>(size_of(spec_.dtype)) : 1;
    return (cols + layout_.padding + unit - 1) / unit * unit;
  }

  // value(row, col) as a matrix of `rows` outputs.
  template <class Value>
  MatrixView matrix(std::int64_t rows, std::int64_t cols, const Value& value) {
    MatrixView m{nullptr, rows, cols, 0, 0};
    m.row_stride = layout_.in_out ? 1 : row(cols);
    m.col_stride = layout_.in_out ? row(rows) : 1;
    std::byte* data = take((rows - 1) * m.row_stride + (cols - 1) * m.col_stride + 1);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) {
        core::store(spec_.dtype, data, r * m.row_stride + c * m.col_stride, value(r, c));
      }
    }
    m.data = data;
    return m;
  }

  template <class Value>
  VectorView vector(std::int64_t size, const Value& value) {
    std::byte* data = take((size - 1) * layout_.bias_stride + 1);
    for (std::int64_t i = 0; i < size; ++i) core::store(spec_.dtype, data, i * layout_.bias_stride, value(i));
    return {data, size, layout_.bias_stride};
  }

 private:
  const MlpSpec& spec_;
  const Layout& layout_;
  Memory& memory_;
};

}  // namespace

Placed place(const MlpSpec& spec, const Values& values, std::int64_t tokens, const Layout& layout, Memory& memory) {
  Placer placer(spec, layout, memory);
  const auto in = [](const std::vector<float>& v, std::int64_t cols) {
    return [&v, cols](std::int64_t r, std::int64_t c) { return v[static_cast<std::size_t>(r * cols + c)]; };
  };
  const auto at = [](const std::vector<float>& v) {
    return [&v](std::int64_t i) { return v[static_cast<std::size_t>(i)]; };
  };
  // Row of the joined matrix -> (from gate?, row there).
  const auto source = [&spec](std::int64_t row) {
    switch (spec.gate_order) {
      case GateOrder::first: return std::pair(row < spec.d_hidden, row % spec.d_hidden);
      case GateOrder::last: return std::pair(row >= spec.d_hidden, row % spec.d_hidden);
      case GateOrder::interleaved: break;
    }
    return std::pair(row % 2 == 0, row / 2);
  };
  Placed out;
  MlpWeights& w = out.weights;
  if (spec.gated && layout.joined) {
    w.gate_up = placer.matrix(2 * spec.d_hidden, spec.d_in, [&](std::int64_t r, std::int64_t c) {
      const auto [is_gate, row] = source(r);
      return in(is_gate ? values.gate : values.up, spec.d_in)(row, c);
    });
    if (spec.bias_gate) {
      w.bias_gate_up = placer.vector(2 * spec.d_hidden, [&](std::int64_t r) {
        const auto [is_gate, row] = source(r);
        return at(is_gate ? values.bias_gate : values.bias_up)(row);
      });
    }
  } else {
    if (spec.gated) w.gate = placer.matrix(spec.d_hidden, spec.d_in, in(values.gate, spec.d_in));
    w.up = placer.matrix(spec.d_hidden, spec.d_in, in(values.up, spec.d_in));
    if (spec.bias_gate) w.bias_gate = placer.vector(spec.d_hidden, at(values.bias_gate));
    if (spec.bias_up) w.bias_up = placer.vector(spec.d_hidden, at(values.bias_up));
  }
  w.down = placer.matrix(spec.d_out, spec.d_hidden, in(values.down, spec.d_hidden));
  if (spec.bias_down) w.bias_down = placer.vector(spec.d_out, at(values.bias_down));

  out.ldx = placer.row(spec.d_in);
  out.ldy = placer.row(spec.d_out);
  if (tokens > 0) {
    std::byte* x = placer.take((tokens - 1) * out.ldx + spec.d_in);
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t i = 0; i < spec.d_in; ++i) {
        core::store(spec.dtype, x, t * out.ldx + i, values.x[static_cast<std::size_t>(t * spec.d_in + i)]);
      }
    }
    out.x = x;
  }
  return out;
}

std::string to_string(const Way& way) {
  if (way.device.type == DeviceType::cuda) return fusedmlp::to_string(way.device) + " " + way.kernel;
  return std::string(fusedmlp::to_string(way.isa)) + " " + way.kernel + (way.packed ? " packed" : " as given");
}

std::vector<Way> cpu_ways(const MlpSpec& spec, std::int64_t tokens) {
  std::vector<Way> out;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    ::setenv("FUSEDMLP_ISA", to_string(isa), 1);
    const Result<DeviceInfo> device = describe(Device::cpu());
    if (!device) continue;  // this CPU lacks it
    out.push_back({isa, "reference", false});
    for (const core::KernelEntry& entry : core::kernels(DeviceType::cpu)) {
      for (const bool packed : {true, false}) {
        if (entry.layout == nullptr || std::string_view(entry.name) == "reference") continue;
        const core::Query query{spec, tokens, *device, 1, packed};
        if (entry.unsupported(query).empty()) out.push_back({isa, entry.name, packed});
      }
    }
  }
  ::unsetenv("FUSEDMLP_ISA");
  return out;
}

bool gpu_only() {
  const char* device = std::getenv("FUSEDMLP_TEST_DEVICE");
  return device != nullptr && std::string_view(device) == "cuda";
}

std::vector<Way> ways(const MlpSpec& spec, const Placed& placed, std::int64_t tokens) {
  std::vector<Way> out = gpu_only() ? std::vector<Way>{{Isa::generic, "reference", false}} : cpu_ways(spec, tokens);
  RunArgs args;
  args.x = args.y = const_cast<void*>(placed.x);  // y is put where x is, modulo 256
  args.ldx = placed.ldx;
  args.ldy = placed.ldy;
  args.tokens = tokens;
  for (const std::string& kernel : gpu_kernels(spec, tokens, core::layout_of(spec, placed.weights, args))) {
    out.push_back({Isa::generic, kernel, false, Device::cuda()});
  }
  return out;
}

Forced::Forced(const Way& way) {
  ::setenv("FUSEDMLP_ISA", to_string(way.isa), 1);
  ::setenv("FUSEDMLP_KERNEL", way.kernel.c_str(), 1);
}

Forced::~Forced() {
  ::unsetenv("FUSEDMLP_ISA");
  ::unsetenv("FUSEDMLP_KERNEL");
}

std::vector<std::byte> run(const Way& way, const MlpSpec& spec, const Placed& placed, std::int64_t tokens,
                           Executor* executor) {
  if (way.device.type == DeviceType::cuda) {
    const Forced forced(way);
    return guarded_run(way.device, spec, placed, tokens);
  }
  // 0xff is NaN: an element that is not written shows.
  std::vector<std::byte> y(static_cast<std::size_t>(tokens * spec.d_out) * size_of(spec.dtype), std::byte{0xff});
  const Forced forced(way);
  PlanOptions options;
  options.pack = way.packed;
  const Result<Plan> plan = Plan::create(spec, placed.weights, Device::cpu(), options);
  EXPECT_TRUE(plan.ok()) << plan.status().to_string();
  if (!plan) return y;
  RunArgs args;
  args.x = placed.x;
  args.ldx = placed.ldx;
  args.y = y.data();
  args.tokens = tokens;
  args.executor = executor;
  const Status status = plan->run(args);
  EXPECT_TRUE(status.ok()) << status.to_string();
  return y;
}

void expect_accurate(const MlpSpec& spec, const Values& values, const Layout& layout, std::int64_t tokens) {
  Memory memory;
  const Placed placed = place(spec, values, tokens, layout, memory);
  const auto truth = [&](core::Roundings roundings) {
    return core::truth_with_bound(spec, placed.weights, placed.x, placed.ldx, tokens, roundings);
  };
  const core::Truth fused = truth(core::Roundings::fused);
  const core::Truth layers = truth(core::Roundings::layer_by_layer);
  std::optional<double> limit;
  for (const Way& way : ways(spec, placed, tokens)) {
    SCOPED_TRACE(to_string(spec) + ", tokens " + std::to_string(tokens) + ", " + to_string(way) +
                 (layout.joined ? ", joined" : "") + (layout.in_out ? ", [in, out]" : "") + ", padding " +
                 std::to_string(layout.padding) + (layout.misaligned ? ", misaligned" : "") +
                 (layout.aligned ? ", aligned" : ""));
    const std::vector<std::byte> y = run(way, spec, placed, tokens);
    const core::Deviation d = core::compare(way.is_reference() ? layers : fused, spec, y.data(), 0, tokens);
    if (!limit) limit = core::norm_limit(spec, tokens, d.norm);  // the reference is the first way
    EXPECT_LE(d.norm, *limit);
    EXPECT_LE(d.worst_ratio, 1) << "element " << d.worst / spec.d_out << ", " << d.worst % spec.d_out;
    EXPECT_EQ(d.kind_errors, 0) << "first at element " << d.first_kind_error;
    if (::testing::Test::HasFailure()) return;
  }
}

std::vector<Packing> packings(const MlpSpec& spec) {
  if (!spec.gated) return {{GateOrder::first, false}};
  return {
      {GateOrder::first, false}, {GateOrder::first, true}, {GateOrder::last, true}, {GateOrder::interleaved, true}};
}

std::vector<MlpSpec> with_biases(MlpSpec spec, const Packing& packing) {
  spec.gate_order = packing.order;
  std::vector<MlpSpec> out;
  for (int mask = 0; mask < 8; ++mask) {
    spec.bias_gate = (mask & 1) != 0;
    spec.bias_up = (mask & 2) != 0;
    spec.bias_down = (mask & 4) != 0;
    if (spec.bias_gate && !spec.gated) continue;
    if (packing.joined && spec.bias_gate != spec.bias_up) continue;
    out.push_back(spec);
  }
  return out;
}

std::vector<MlpSpec> all_forms() {
  std::vector<MlpSpec> out;
  for (int t = 0; t < kDTypeCount; ++t) {
    for (int a = 0; a < kActivationCount; ++a) {
      for (const bool gated : {false, true}) {
        MlpSpec spec;
        spec.dtype = static_cast<DType>(t);
        spec.activation = static_cast<Activation>(a);
        spec.gated = gated;
        if (gated || spec.activation != Activation::swiglu_oai) out.push_back(spec);
      }
    }
  }
  return out;
}

}  // namespace fusedmlp::test
