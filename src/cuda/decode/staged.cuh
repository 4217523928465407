// Two tokens and more on the tensor cores, as in tensor.cuh, but inputs come through shared memory, copied ahead as
// the weights are: a warp then has no need to wait for L2 before each product, nor registers for inputs on their way.
#pragma once

#include "cuda/decode/tensor.cuh"
#include "cuda/ptx/cp_async.cuh"

namespace fusedmlp::cuda::decode {

// A warp's inputs of one step in shared memory, which no other warp reads: units of 64 k, a token's 128 bytes side by
// side, its halves exchanged where the token is odd, so that eight lanes meet all banks.
template <class T, class W, int kTiles>
class StagedInputs {
 public:
  static constexpr int kTokens = kTiles * 16;
  static constexpr int kUnits = W::kChunks / 2;
  static constexpr int kUnitBytes = kTokens * kUnitK * 2;

  __device__ StagedInputs(const Args& args, const W& weights, void* own)
      : from_(static_cast<const T*>(args.a)), stride_(args.a_stride), tokens_(args.m), size_(args.k) {
    const int lane = W::lane(), token = lane / 8, row = lane / 4;
    k_ = weights.k(0, 0) - lane % 4 * kVector + lane % 8 * kVector;
    token_ = token;
    const std::uint32_t base = ptx::shared_address(own);
    to_ = base + token * kRowBytes + (lane % 8 ^ token % 2 * 4) * 16;
    read_ = base + row * kRowBytes + (lane % 4 ^ row % 2 * 4) * 16;
  }

  // Starts the copies of one unit of a step, no group yet; zeros beyond the tokens and k.
  __device__ __forceinline__ void copy(int step, int unit) const {
    const int k = k_ + (step * kUnits + unit) * kUnitK;
    const bool inside = k < size_;
#pragma unroll
    for (int i = 0; i < kTokens / 4; ++i) {
      const int token = token_ + i * 4;
      const bool has = inside && token < tokens_;
      ptx::cp_async_part(to_ + unit * kUnitBytes + i * 4 * kRowBytes, from_ + (has ? token * stride_ + k : 0),
                         has ? 16 : 0);
    }
  }

  // Eight elements of k of token row l / 4 of an eight, in the order of the weights' loads.
  __device__ __forceinline__ uint4 load(int chunk, int eight) const {
    uint4 v;
    const std::uint32_t at = (read_ ^ chunk % 2 * 64) + chunk / 2 * kUnitBytes + eight * 8 * kRowBytes;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(at)
                 : "memory");
    return v;
  }

 private:
  static constexpr int kRowBytes = kUnitK * 2;
  const T* from_;
  std::int64_t stride_;
  int tokens_, size_, k_, token_;
  std::uint32_t to_, read_;
};

template <int kForm, int kTiles>
inline constexpr int kStagedFloats = staged_floats(kForm, kTiles);

template <class T, int kForm, bool kWhole, int kTiles>
__global__ void __maxnreg__(registers_of(kForm, kTiles, kWhole)) staged_kernel(const __grid_constant__ Args args) {
  using W = Weights<T, kForm, kWhole>;
  using Inputs = StagedInputs<T, W, kTiles>;
  extern __shared__ __align__(128) float shared[];
  W weights(args);
  constexpr int kPitch = kTiles * 16 + 1, kStep = kStagedFloats<kForm, kTiles>;
  const Shared at = shared_parts<W>(shared, kPitch, kStep);
  float* own = at.sum(W::part(), 0, 0);
  const Inputs inputs(args, weights, own);
  Biases<T, W> biases;
  begin(args, weights, biases);
#pragma unroll
  for (int u = 0; u < Inputs::kUnits; ++u) {
    inputs.copy(0, u);
    ptx::cp_async_commit();
  }
  float sums[W::kJobs][W::kMatrices][kTiles][4] = {};
  const int steps = kWhole ? 1 : args.steps;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int c = 0; c < W::kChunks; ++c) {
      if (c % 2 == 0) {
        ptx::cp_async_wait<Inputs::kUnits - 1>();  // all but the units after this one
        __syncwarp();
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const uint4 low = inputs.load(c, 2 * i), high = inputs.load(c, 2 * i + 1);
        multiply<T>(sums, i, low, high, weights, c);
      }
      const bool more = !kWhole && step + 1 < steps;
      if constexpr (!kWhole) weights.load(step + 1, c, more);
      if (c % 2 == 1) {
        __syncwarp();
        if (more) inputs.copy(step + 1, c / 2);
        ptx::cp_async_commit();  // of nothing at the end, so that groups are counted alike
      }
    }
  }
  biases.store(at);
  store_sums<W>(at, sums);  // over the inputs, which this warp has read
  finish<T, W>(args, at);
}

}  // namespace fusedmlp::cuda::decode
