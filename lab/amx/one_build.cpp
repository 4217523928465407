// A build of the library as a plug-in of two_builds.cpp: an MLP with its plan, run on two threads, and its weights'
// bytes read alone.
//   printf '{ global: lab_*; local: *; };' >lab.map
//   g++ -std=c++20 -O2 -fPIC -shared -Isrc -Iinclude lab/amx/one_build.cpp BUILD/src/libfusedmlp_static.a -lz
//     -pthread -Wl,--version-script=lab.map -Wl,-Bsymbolic -o old.so
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/numeric.h"
#include "cpu/thread_pool.h"
#include "fusedmlp/plan.h"
#include "fusedmlp/spec.h"

namespace {

using namespace fusedmlp;

struct Lab {
  MlpSpec spec;
  std::int64_t tokens;
  std::vector<std::byte> gate, up, down, bias, x, y;
  std::unique_ptr<Executor> pool;
  std::unique_ptr<Plan> plan;
  core::AlignedBuffer floor;
};

// Normal, as values of real layers are.
std::vector<std::byte> normal(std::int64_t count, DType dtype, double deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, static_cast<float>(deviation));
  std::vector<float> some(1 << 16);
  for (float& v : some) v = distribution(random);
  std::vector<std::byte> values(static_cast<std::size_t>(count) * size_of(dtype));
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const float v = some[random() % some.size()];
    const std::uint16_t rounded = core::float_to_bf16(v);
    std::memcpy(values.data() + i * size_of(dtype), dtype == DType::f32 ? static_cast<const void*>(&v) : &rounded,
                size_of(dtype));
  }
  return values;
}

}  // namespace

extern "C" {

// fp32 or bf16; null where the spec or the plan is refused.
void* lab_make(const char* text, std::int64_t tokens) {
  const auto spec = parse_spec(text);
  if (!spec) return nullptr;
  const MlpSpec& s = *spec;
  const std::int64_t elements = s.d_hidden * s.d_in;
  const double k = 1 / std::sqrt(static_cast<double>(s.d_in));
  auto lab = std::make_unique<Lab>(
      Lab{s, tokens, normal(s.gated ? elements : 0, s.dtype, k, 1), normal(elements, s.dtype, k, 2),
          normal(s.d_hidden * s.d_out, s.dtype, k, 3), normal(s.d_hidden + s.d_out, s.dtype, 0.1, 4),
          normal(tokens * s.d_in, s.dtype, 1, 5),
          std::vector<std::byte>(static_cast<std::size_t>(tokens * s.d_out) * 4), cpu::make_thread_pool(2), nullptr,
          core::AlignedBuffer(static_cast<std::size_t>(weight_elements(s)) * size_of(s.dtype))});
  std::memset(lab->floor.data(), 1, lab->floor.size());
  MlpWeights weights;
  if (s.gated) weights.gate = {lab->gate.data(), s.d_hidden, s.d_in, s.d_in, 1};
  weights.up = {lab->up.data(), s.d_hidden, s.d_in, s.d_in, 1};
  weights.down = {lab->down.data(), s.d_out, s.d_hidden, s.d_hidden, 1};
  if (s.bias_gate) weights.bias_gate = {lab->bias.data(), s.d_hidden, 1};
  if (s.bias_up) weights.bias_up = {lab->bias.data(), s.d_hidden, 1};
  if (s.bias_down) weights.bias_down = {lab->bias.data(), s.d_out, 1};
  auto plan = Plan::create(s, weights);
  if (!plan) return nullptr;
  lab->plan = std::make_unique<Plan>(std::move(*plan));
  return lab.release();
}

int lab_run(void* lab) {
  Lab& l = *static_cast<Lab*>(lab);
  RunArgs args;
  args.x = l.x.data();
  args.y = l.y.data();
  args.tokens = l.tokens;
  args.executor = l.pool.get();
  return l.plan->run(args).ok();
}

void lab_read(void* lab) {
  const auto half = [](void* context, int index) {
    using Vector = std::uint64_t __attribute__((vector_size(16)));
    constexpr std::size_t kSums = 8;
    const Lab& l = *static_cast<const Lab*>(context);
    const std::size_t count = l.floor.size() / 2 / sizeof(Vector);
    const auto* at = static_cast<const Vector*>(l.floor.data()) + static_cast<std::size_t>(index) * count;
    Vector sums[kSums] = {};
    for (std::size_t i = 0; i + kSums <= count; i += kSums) {
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kSums; ++j) sums[j] += at[i + j];
    }
    volatile std::uint64_t sink = 0;
    for (const Vector& sum : sums) sink = sink + sum[0] + sum[1];
    static_cast<void>(sink);
  };
  static_cast<Lab*>(lab)->pool->parallel(2, half, lab);
}

const void* lab_result(void* lab, std::int64_t* bytes) {
  const Lab& l = *static_cast<Lab*>(lab);
  *bytes = static_cast<std::int64_t>(l.y.size());
  return l.y.data();
}

void lab_free(void* lab) { delete static_cast<Lab*>(lab); }
}
