// fusedmlp beside oneDNN on the CPU: matmul primitives with packed weights (format `any`) and the activation, and the
// gate's product, as post-operations: oneDNN's own best way. Medians of calls, the two taking turns in short
// stretches, with a pause between so that one's waiting threads are asleep while the other works.
//
//   OMP_NUM_THREADS=2 FUSEDMLP_NUM_THREADS=2 fusedmlp_bench_peers_onednn [SPEC ...] [tokens=1,16,64]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/numeric.h"
#include "fusedmlp/fusedmlp.h"

namespace fusedmlp {
namespace {

using dnnl::memory;
using Clock = std::chrono::steady_clock;

memory::data_type type_of(DType dtype) {
  return dtype == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
}

dnnl::algorithm algorithm_of(Activation activation) {
  switch (activation) {
    case Activation::relu: return dnnl::algorithm::eltwise_relu;
    case Activation::gelu: return dnnl::algorithm::eltwise_gelu_erf;
    case Activation::gelu_tanh: return dnnl::algorithm::eltwise_gelu_tanh;
    case Activation::silu: return dnnl::algorithm::eltwise_swish;
    default: return dnnl::algorithm::undef;
  }
}

// Random normal values of a storage type: constant operands run faster than real ones.
std::vector<std::byte> random_values(DType dtype, std::int64_t count, float scale, unsigned seed) {
  std::vector<std::byte> out(static_cast<std::size_t>(count) * size_of(dtype));
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  for (std::int64_t i = 0; i < count; ++i) core::store(dtype, out.data(), i, normal(generator));
  return out;
}

struct Data {
  explicit Data(const MlpSpec& s, std::int64_t count) : spec(s), tokens(count) {
    const float in = 1.0f / std::sqrt(static_cast<float>(s.d_in));
    const float hidden = 1.0f / std::sqrt(static_cast<float>(s.d_hidden));
    x = random_values(s.dtype, tokens * s.d_in, 1.0f, 1);
    gate = random_values(s.dtype, s.gated ? s.d_hidden * s.d_in : 0, in, 2);
    up = random_values(s.dtype, s.d_hidden * s.d_in, in, 3);
    down = random_values(s.dtype, s.d_out * s.d_hidden, hidden, 4);
    bias_up = random_values(s.dtype, s.bias_up ? s.d_hidden : 0, 0.1f, 5);
    bias_down = random_values(s.dtype, s.bias_down ? s.d_out : 0, 0.1f, 6);
    y.resize(static_cast<std::size_t>(tokens * s.d_out) * size_of(s.dtype));
  }

  MlpWeights weights() const {
    MlpWeights w;
    if (spec.gated) w.gate = MatrixView::out_in(gate.data(), spec.d_hidden, spec.d_in);
    w.up = MatrixView::out_in(up.data(), spec.d_hidden, spec.d_in);
    w.down = MatrixView::out_in(down.data(), spec.d_out, spec.d_hidden);
    if (spec.bias_up) w.bias_up = {bias_up.data(), spec.d_hidden, 1};
    if (spec.bias_down) w.bias_down = {bias_down.data(), spec.d_out, 1};
    return w;
  }

  MlpSpec spec;
  std::int64_t tokens;
  std::vector<std::byte> x, gate, up, down, bias_up, bias_down, y;
};

// y = x w^T (+ bias), then `post`; w [out, in] is packed once.
class Linear {
 public:
  Linear(const dnnl::engine& engine, dnnl::stream& stream, DType dtype, std::int64_t rows, std::int64_t in,
         std::int64_t out, const void* w, const void* bias, const dnnl::post_ops& post) {
    const auto type = type_of(dtype);
    const memory::desc source({rows, in}, type, memory::format_tag::ab);
    const memory::desc any({in, out}, type, memory::format_tag::any);
    const memory::desc target({rows, out}, type, memory::format_tag::ab);
    const memory::desc vector({1, out}, type, memory::format_tag::ab);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(post);
    const auto what =
        bias != nullptr ? dnnl::matmul::desc(source, any, vector, target) : dnnl::matmul::desc(source, any, target);
    const dnnl::matmul::primitive_desc chosen(what, attributes, engine);
    weights_ = memory(chosen.weights_desc(), engine);
    memory plain({{in, out}, type, memory::format_tag::ba}, engine, const_cast<void*>(w));
    dnnl::reorder(plain, weights_).execute(stream, plain, weights_);
    arguments_.emplace(DNNL_ARG_WEIGHTS, weights_);
    if (bias != nullptr) arguments_.emplace(DNNL_ARG_BIAS, memory(vector, engine, const_cast<void*>(bias)));
    stream.wait();
    primitive_ = dnnl::matmul(chosen);
  }

  void set(int argument, const memory& value) { arguments_[argument] = value; }
  void run(dnnl::stream& stream) const { primitive_.execute(stream, arguments_); }

 private:
  dnnl::matmul primitive_;
  memory weights_;
  std::unordered_map<int, memory> arguments_;
};

class OneDnn {
 public:
  explicit OneDnn(Data& data) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    const MlpSpec& s = data.spec;
    const auto type = type_of(s.dtype);
    const memory::desc wide({data.tokens, s.d_hidden}, type, memory::format_tag::ab);
    const memory x({{data.tokens, s.d_in}, type, memory::format_tag::ab}, engine_, data.x.data());
    const memory y({{data.tokens, s.d_out}, type, memory::format_tag::ab}, engine_, data.y.data());
    const memory hidden(wide, engine_);
    dnnl::post_ops activation;
    activation.append_eltwise(1.0f, algorithm_of(s.activation), s.activation == Activation::silu ? 1.0f : 0.0f, 0.0f);
    const auto bias = [](const std::vector<std::byte>& values) { return values.empty() ? nullptr : values.data(); };
    const auto add = [&](std::int64_t in, std::int64_t out, const std::vector<std::byte>& w, const void* b,
                         const dnnl::post_ops& post, const memory& from, const memory& to) -> Linear& {
      layers_.emplace_back(engine_, stream_, s.dtype, data.tokens, in, out, w.data(), b, post);
      layers_.back().set(DNNL_ARG_SRC, from);
      layers_.back().set(DNNL_ARG_DST, to);
      return layers_.back();
    };
    if (s.gated) {
      const memory up(wide, engine_);
      add(s.d_in, s.d_hidden, data.up, bias(data.bias_up), {}, x, up);
      const int multiply = activation.len();
      activation.append_binary(dnnl::algorithm::binary_mul, wide);
      add(s.d_in, s.d_hidden, data.gate, nullptr, activation, x, hidden)
          .set(DNNL_ARG_ATTR_MULTIPLE_POST_OP(multiply) | DNNL_ARG_SRC_1, up);
    } else {
      add(s.d_in, s.d_hidden, data.up, bias(data.bias_up), activation, x, hidden);
    }
    add(s.d_hidden, s.d_out, data.down, bias(data.bias_down), {}, hidden, y);
  }

  void run() {
    for (const Linear& layer : layers_) layer.run(stream_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::vector<Linear> layers_;
};

double median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Stretches of calls, in turn; the first call of a stretch wakes threads and is not counted.
void interleave(const std::function<void()> (&calls)[2], std::vector<double> (&times)[2]) {
  constexpr double kStretch = 0.06;
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(12));
      calls[i]();
      const auto begin = Clock::now();
      auto before = begin;
      do {
        calls[i]();
        const auto after = Clock::now();
        times[i].push_back(std::chrono::duration<double, std::micro>(after - before).count());
        before = after;
      } while (std::chrono::duration<double>(before - begin).count() < kStretch);
    }
  }
}

// ||a - b|| / ||b||
double difference(DType dtype, const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  double apart = 0, size = 0;
  for (std::size_t i = 0; i < a.size() / size_of(dtype); ++i) {
    const double u = core::load(dtype, a.data(), static_cast<std::int64_t>(i));
    const double v = core::load(dtype, b.data(), static_cast<std::int64_t>(i));
    apart += (u - v) * (u - v);
    size += v * v;
  }
  return std::sqrt(apart / size);
}

int run_case(const std::string& text, std::int64_t tokens) {
  const Result<MlpSpec> spec = parse_spec(text);
  if (!spec || spec->dtype == DType::f16 || algorithm_of(spec->activation) == dnnl::algorithm::undef) {
    std::fprintf(stderr, "error: SPEC: got %s, accepted: fp32 or bf16 with relu, gelu, gelu_tanh or silu%s%s\n",
                 text.c_str(), spec ? "" : "; ", spec ? "" : spec.status().message().c_str());
    return 2;
  }
  Data data(*spec, tokens);
  OneDnn peer(data);
  const Result<Plan> plan = Plan::create(*spec, data.weights());
  if (!plan) {
    std::fprintf(stderr, "error: %s\n", plan.status().to_string().c_str());
    return 1;
  }
  peer.run();
  const std::vector<std::byte> theirs = data.y;
  if (const Status status = plan->run(data.x.data(), data.y.data(), tokens); !status) {
    std::fprintf(stderr, "error: %s\n", status.to_string().c_str());
    return 1;
  }
  const double apart = difference(spec->dtype, data.y, theirs);
  const std::function<void()> calls[2] = {[&] { peer.run(); },
                                          [&] { (void)plan->run(data.x.data(), data.y.data(), tokens); }};
  std::vector<double> times[2];
  interleave(calls, times);
  const double a = median(times[0]);
  const double b = median(times[1]);
  std::printf("%-28s %7lld %12.1f %12.1f %8.2f   %.1e\n", to_string(*spec).c_str(), static_cast<long long>(tokens), a,
              b, a / b, apart);
  std::fflush(stdout);
  return 0;
}

}  // namespace
}  // namespace fusedmlp

int main(int argc, char** argv) {
  std::vector<std::string> specs;
  std::string tokens = "1,16,64,256,1024";
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("tokens=")) {
      tokens = word.substr(7);
    } else {
      specs.emplace_back(word);
    }
  }
  if (specs.empty()) {
    for (const char* shape : {"geglu:768x3072", "gelu:768x3072+bias", "swiglu:2048x5632", "gelu:64x256+bias"}) {
      for (const char* dtype : {",fp32", ",bf16"}) specs.push_back(std::string(shape) + dtype);
    }
  }
  std::printf("medians in us, %d thread(s); oneDNN %d.%d.%d\n", fusedmlp::default_executor().concurrency(),
              dnnl_version()->major, dnnl_version()->minor, dnnl_version()->patch);
  std::printf("%-28s %7s %12s %12s %8s   %s\n", "spec", "tokens", "oneDNN", "fusedmlp", "ratio", "apart");
  for (const std::string& spec : specs) {
    std::stringstream list(tokens);
    for (std::string count; std::getline(list, count, ',');) {
      const long long value = std::atoll(count.c_str());
      if (value < 1) {
        std::fprintf(stderr, "error: tokens: got %s, accepted: numbers from 1 with commas between them\n",
                     count.c_str());
        return 2;
      }
      try {
        if (const int code = fusedmlp::run_case(spec, value); code != 0) return code;
      } catch (const dnnl::error& error) {  // bf16 needs AVX-512 there
        std::printf("%-28s %7lld   left out: oneDNN: %s\n", spec.c_str(), value, error.what());
      }
    }
  }
  return 0;
}
