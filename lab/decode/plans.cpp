// Times plans of cuda.decode: from the chosen one, each knob in turn to its best value, twice; then ways to launch.
//   plans [SPEC TOKENS]...
// A CUDA graph of as many copies of the weights as make them cold in L2, one launch each; medians. Every plan's
// outputs are compared with the first one's.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/numeric.h"
#include "cuda/common/barrier_slot.h"
#include "cuda/decode/plan.h"
#include "fusedmlp/fusedmlp.h"

using namespace fusedmlp;
using namespace fusedmlp::cuda;

namespace {

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

void* allocate(std::size_t bytes) {
  void* data = nullptr;
  require(cudaMalloc(&data, bytes));
  return data;
}

void* random_elements(DType dtype, std::int64_t elements, float scale) {
  constexpr std::int64_t kPattern = 1000003;
  std::vector<std::byte> host(static_cast<std::size_t>(elements) * 2);
  std::mt19937 engine(7);
  std::normal_distribution<float> normal(0, scale);
  for (std::int64_t i = 0; i < std::min(elements, kPattern); ++i) core::store(dtype, host.data(), i, normal(engine));
  const std::size_t pattern = kPattern * 2;
  for (std::size_t at = pattern; at < host.size(); at += pattern) {
    std::copy_n(host.data(), std::min(pattern, host.size() - at), host.data() + at);
  }
  void* memory = allocate(host.size());
  require(cudaMemcpy(memory, host.data(), host.size(), cudaMemcpyHostToDevice));
  return memory;
}

void* copy_of(const void* from, std::size_t bytes) {
  void* memory = allocate(bytes);
  require(cudaMemcpy(memory, from, bytes, cudaMemcpyDeviceToDevice));
  return memory;
}

struct Mode {
  bool cooperative = true;
  bool overlaps = true;
};

class Lab {
 public:
  Lab(const MlpSpec& spec, std::int64_t tokens) : spec_(spec), tokens_(tokens), device_(*describe(Device::cuda())) {
    const std::int64_t h = spec.d_hidden;
    const std::size_t in_bytes = static_cast<std::size_t>(h * spec.d_in) * 2;
    const std::size_t down_bytes = static_cast<std::size_t>(h * spec.d_out) * 2;
    void* up = random_elements(spec.dtype, h * spec.d_in, 1 / std::sqrt(float(spec.d_in)));
    void* down = random_elements(spec.dtype, h * spec.d_out, 1 / std::sqrt(float(h)));
    void* bias = random_elements(spec.dtype, std::max(h, spec.d_out), 0.5f);
    x_ = random_elements(spec.dtype, tokens * spec.d_in, 1);
    y_ = allocate(static_cast<std::size_t>(tokens * spec.d_out) * 2);
    workspace_ = static_cast<std::byte*>(
        allocate(decode::hidden_bytes(spec, tokens) + decode::partial_bytes(spec, tokens, device_)));
    owned_ = {up, down, bias, x_, y_, workspace_};
    const double weight_bytes = double(weight_elements(spec)) * 2;
    const int copies = std::max(2, int(std::ceil(200e6 / weight_bytes)) + 1);
    for (int i = 0; i < copies; ++i) {
      MlpWeights w;
      const auto own = [&](const void* from, std::size_t bytes) {
        owned_.push_back(copy_of(from, bytes));
        return owned_.back();
      };
      w.up = MatrixView::out_in(own(up, in_bytes), h, spec.d_in);
      if (spec.gated) w.gate = MatrixView::out_in(own(up, in_bytes), h, spec.d_in);
      w.down = MatrixView::out_in(own(down, down_bytes), spec.d_out, h);
      if (spec.bias_up) w.bias_up = {bias, h, 1};
      if (spec.bias_gate) w.bias_gate = {bias, h, 1};
      if (spec.bias_down) w.bias_down = {bias, spec.d_out, 1};
      weights_.push_back(w);
    }
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    require(cudaEventCreate(&begin_));
    require(cudaEventCreate(&end_));
  }
  ~Lab() {
    for (void* data : owned_) cudaFree(data);
  }

  const DeviceInfo& device() const { return device_; }
  std::optional<decode::Plan> plan(const decode::Knobs& knobs) const {
    return decode::make_plan(spec_, tokens_, device_, knobs);
  }

  // Microseconds of one MLP; negative: it could not be launched or its outputs are wrong.
  double time(const decode::Plan& plan, Mode mode, int samples = 5) {
    require(cudaMemset(y_, 0xff, static_cast<std::size_t>(tokens_ * spec_.d_out) * 2));
    require(cudaDeviceSynchronize());
    if (!queue(plan, mode, weights_.front())) return -1;
    if (cudaStreamSynchronize(stream_) != cudaSuccess)
      std::printf("failed: %s\n", cudaGetErrorString(cudaGetLastError()));
    const double error = difference();
    if (!(error < 0.02)) {
      std::printf("WRONG by %g\n", error);
      return -2;
    }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
    for (const MlpWeights& w : weights_) queue(plan, mode, w);
    require(cudaStreamEndCapture(stream_, &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    require(cudaGraphDestroy(graph));
    std::vector<double> all;
    const double once = run(executable, 1);
    const int replays = std::clamp(int(1500 / once), 1, 30);
    for (int i = 0; i < samples; ++i) all.push_back(run(executable, replays) / replays / double(weights_.size()));
    require(cudaGraphExecDestroy(executable));
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  }

 private:
  bool queue(const decode::Plan& plan, Mode mode, const MlpWeights& weights) {
    decode::Call call;
    call.products = two_gemms({spec_, weights, nullptr}, x_, spec_.d_in, workspace_, decode::hidden_stride(spec_), y_,
                              spec_.d_out, tokens_);
    call.activation = activation_args(spec_);
    call.gated = spec_.gated;
    call.plan = plan;
    call.partial = reinterpret_cast<float*>(workspace_ + decode::hidden_bytes(spec_, tokens_));
    call.barrier = *barrier_slot(stream_);
    call.most_shared = device_.shared_memory_per_block;
    call.cooperative = mode.cooperative;
    call.overlaps_predecessor = mode.overlaps;
    const Status status =
        spec_.dtype == DType::bf16 ? decode::mlp_bf16(call, stream_) : decode::mlp_f16(call, stream_);
    if (!status) std::printf("%s\n", status.to_string().c_str());
    return status.ok();
  }
  double difference() {
    std::vector<std::byte> y(static_cast<std::size_t>(tokens_ * spec_.d_out) * 2);
    require(cudaMemcpy(y.data(), y_, y.size(), cudaMemcpyDeviceToHost));
    if (first_.empty()) first_ = y;
    double squares = 0, norm = 0;
    for (std::int64_t i = 0; i < tokens_ * spec_.d_out; ++i) {
      const double a = core::load(spec_.dtype, y.data(), i);
      const double b = core::load(spec_.dtype, first_.data(), i);
      squares += (a - b) * (a - b);
      norm += b * b;
    }
    return std::sqrt(squares / norm);
  }
  double run(cudaGraphExec_t graph, int replays) {
    require(cudaEventRecord(begin_, stream_));
    for (int i = 0; i < replays; ++i) require(cudaGraphLaunch(graph, stream_));
    require(cudaEventRecord(end_, stream_));
    require(cudaEventSynchronize(end_));
    float ms = 0;
    require(cudaEventElapsedTime(&ms, begin_, end_));
    return ms * 1e3;
  }

  MlpSpec spec_;
  std::int64_t tokens_;
  DeviceInfo device_;
  void* x_;
  void* y_;
  std::byte* workspace_;
  std::vector<void*> owned_;
  std::vector<MlpWeights> weights_;
  std::vector<std::byte> first_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

void print(const char* what, const decode::Knobs& k, const decode::Plan& p, double us) {
  std::printf(
      "%-10s %7.2f us  predicted %6.1f  warps %2d blocks %3d depth %d splits %2d up_k %2d down_k %2d prefetch %3d K "
      "| "
      "up %dx%d tiles %dx%d chunk %dx%d, down %dx%d tiles %dx%d chunk %dx%d, %d KB\n",
      what, us, p.seconds * 1e6, k.warps, p.blocks, k.depth, k.splits, k.up_warps_k, k.down_warps_k,
      k.prefetch_bytes >> 10, p.up.passes, p.up.pass_rows, p.up.tiles, p.up.step_units, p.up.buffers,
      p.up.chunk_units, p.down.passes, p.down.pass_rows, p.down.tiles, p.down.step_units, p.down.buffers,
      p.down.chunk_units, p.shared_bytes >> 10);
}

void tune(const MlpSpec& spec, std::int64_t tokens) {
  Lab lab(spec, tokens);
  std::printf("== %s, %lld tokens, %s\n", to_string(spec).c_str(), static_cast<long long>(tokens),
              lab.device().name.c_str());
  if (const auto chosen = decode::choose(spec, tokens, lab.device())) {
    decode::Knobs k;
    k.warps = chosen->warps;
    k.depth = chosen->depth;
    k.splits = chosen->down.splits;
    k.up_warps_k = chosen->up.warps_k;
    k.down_warps_k = chosen->down.warps_k;
    k.prefetch_bytes = chosen->prefetch_bytes;
    Mode mode;
    double best = lab.time(*chosen, mode);
    print("chosen", k, *chosen, best);
    const auto attempt = [&](const decode::Knobs& knobs) {
      const auto plan = lab.plan(knobs);
      if (!plan) return;
      const double us = lab.time(*plan, mode, 3);
      if (us > 0 && us < best) {
        best = us;
        k = knobs;
      }
    };
    const auto sweep = [&](int decode::Knobs::*member, std::initializer_list<int> values) {
      const decode::Knobs start = k;
      for (const int value : values) {
        if (value == start.*member) continue;
        decode::Knobs knobs = start;
        knobs.*member = value;
        attempt(knobs);
      }
    };
    constexpr int kShares[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16};
    for (const int warps : {8, 12, 14, 16}) {
      for (const int depth : {2, 3}) {
        decode::Knobs own = k;
        own.warps = warps;
        own.depth = depth;
        own.down_warps_k = warps;
        double own_best = 1e9;
        for (int decode::Knobs::*member :
             {&decode::Knobs::up_warps_k, &decode::Knobs::splits, &decode::Knobs::down_warps_k}) {
          const decode::Knobs start = own;
          for (const int share : kShares) {
            if (member == &decode::Knobs::splits && (share & (share - 1)) != 0) continue;
            decode::Knobs knobs = start;
            knobs.*member = share;
            const auto plan = lab.plan(knobs);
            if (!plan) continue;
            const double us = lab.time(*plan, mode, 3);
            if (us > 0 && us < own_best) {
              own_best = us;
              own = knobs;
            }
          }
        }
        if (const auto plan = lab.plan(own)) print("  warps", own, *plan, own_best);
        if (own_best < best) {
          best = own_best;
          k = own;
        }
      }
    }
    for (int round = 0; round < 1; ++round) {
      sweep(&decode::Knobs::splits, {1, 2, 4, 8, 16});
      sweep(&decode::Knobs::up_warps_k, {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16});
      sweep(&decode::Knobs::down_warps_k, {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16});
      sweep(&decode::Knobs::depth, {2, 3, 4});
      sweep(&decode::Knobs::blocks, {128, 132});
      sweep(&decode::Knobs::prefetch_bytes, {0, 32 << 10, 64 << 10, 128 << 10});
    }
    const auto plan = lab.plan(k);
    if (plan) print("best", k, *plan, lab.time(*plan, mode));
    if (plan) {
      decode::Knobs none = k;
      none.prefetch_bytes = 0;
      std::printf("modes: plain %.2f  cooperative %.2f  pdl %.2f  pdl+cooperative %.2f, without prefetch %.2f\n",
                  lab.time(*plan, {false, false}), lab.time(*plan, {true, false}), lab.time(*plan, {false, true}),
                  lab.time(*plan, {true, true}), lab.time(*lab.plan(none), {true, true}));
    }
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) tune(parse_spec(argv[i]).value(), std::atoll(argv[i + 1]));
}
