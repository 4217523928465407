// What both kernels of cuda.decode share: arguments, loads, the order of waiting and loading, and the epilogue.
#pragma once

#include <cstring>

#include "cuda/common/activations.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/numeric.cuh"
#include "cuda/decode/plan.h"
#include "cuda/ptx/grid_dependency.cuh"
#include "cuda/ptx/prefetch.cuh"

namespace fusedmlp::cuda::decode {

// When a launch reads its weights.
enum class Order : std::uint8_t {
  waits,  // once the kernels ahead of it are complete: one of them may write the weights
  leads,  // at once: the kernel ahead is the first product's, which has waited for all before it and has begun
};

// One product, in the order of use.
struct Args {
  const void* w;
  const void* gate;
  const void* a;  // [m, k]
  std::int64_t w_stride, gate_stride, a_stride;
  int n, k, m;
  int steps;
  Order order;
  Drawn drawn;

  void* out;  // [m, n]
  Bias bias, gate_bias;
  std::int64_t out_stride;
  std::uint32_t row_inverse;  // row_divisor() of the block's rows
  ActivationArgs activation;
};

// i / rows without a division, whose instructions a launch of a few microseconds would feel.
__device__ __forceinline__ int divided(int i, std::uint32_t inverse) {
  return static_cast<int>(static_cast<std::uint32_t>(i) * inverse >> kDivisorBits);
}

// 16 bytes; kGuarded: zeros where nothing is `there`, by predicate, for branches would keep loads apart. Weights are
// read once and by nobody else. One token is the same few lines for all warps of an SM, so it comes through L1; what
// the launch ahead wrote is seen there after the wait. The lines of more tokens would only pass through.
#define FUSEDMLP_LOAD(name, instruction)                                                 \
  template <bool kGuarded>                                                               \
  __device__ __forceinline__ uint4 name(const void* from, [[maybe_unused]] bool there) { \
    uint4 v;                                                                             \
    if constexpr (kGuarded) {                                                            \
      asm volatile(                                                                      \
          "{\n.reg .pred p;\nsetp.ne.u32 p, %5, 0;\n"                                    \
          "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"             \
          "@p " instruction " {%0, %1, %2, %3}, [%4];\n}"                                \
          : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)                               \
          : "l"(from), "r"(static_cast<std::uint32_t>(there))                            \
          : "memory");                                                                   \
    } else {                                                                             \
      asm volatile(instruction " {%0, %1, %2, %3}, [%4];"                                \
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)                          \
                   : "l"(from)                                                           \
                   : "memory");                                                          \
    }                                                                                    \
    return v;                                                                            \
  }
FUSEDMLP_LOAD(load_weights, "ld.global.L1::no_allocate.L2::128B.v4.b32")
FUSEDMLP_LOAD(load_token, "ld.global.v4.b32")
FUSEDMLP_LOAD(load_input, "ld.global.cg.v4.b32")
#undef FUSEDMLP_LOAD

// One warp's weights of a step: kJobs groups of rows, of gate and up where gated, kChunks pieces of k of each, side
// by side. kWhole: k is one step, which spares registers; else there may be more steps, and what lies beyond k counts
// as zero. Rows beyond the last are the last again; their outputs are not written.
template <class T, int kForm, bool kWhole>
struct Weights {
  static constexpr Form kShape = kForms[kForm];
  static constexpr int kMatrices = kShape.gated ? 2 : 1;  // gate first
  static constexpr int kChunks = kShape.chunks, kJobs = kShape.jobs, kRows = kShape.rows(), kPiece = kShape.piece();
  static constexpr int kRowLanes = 32 / kRows;  // lanes that share a row

  // A block is 32 lanes x splits x groups.
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int part() { return static_cast<int>(threadIdx.y); }
  static __device__ __forceinline__ int splits() { return static_cast<int>(blockDim.y); }
  static __device__ __forceinline__ int block_rows() { return static_cast<int>(blockDim.z) * kJobs * kRows; }
  static __device__ __forceinline__ int block_row() { return static_cast<int>(blockIdx.x) * block_rows(); }
  // First row of a job, within the block.
  static __device__ __forceinline__ int job_row(int job) {
    return (static_cast<int>(threadIdx.z) * kJobs + job) * kRows;
  }

  __device__ explicit Weights(const Args& args)
      : size_(args.k), k_(part() * (kWhole ? 1 : args.steps) * kChunks * kPiece + lane() % kRowLanes * kVector) {
#pragma unroll
    for (int j = 0; j < kJobs; ++j) {
      const int row = min(block_row() + job_row(j) + lane() / kRowLanes, args.n - 1);
#pragma unroll
      for (int r = 0; r < kMatrices; ++r) {
        const bool gate = kMatrices == 2 && r == 0;
        from_[j][r] =
            static_cast<const T*>(gate ? args.gate : args.w) + row * (gate ? args.gate_stride : args.w_stride) + k_;
      }
    }
  }

  // First element of k of this lane's load, and whether there is one.
  __device__ __forceinline__ int k(int step, int chunk) const { return k_ + (step * kChunks + chunk) * kPiece; }
  __device__ __forceinline__ bool has(int k) const { return kWhole || k < size_; }

  // One chunk's weights of a step; zeros where there is no such step.
  __device__ __forceinline__ void load(int step, int chunk, bool there = true) {
#pragma unroll
    for (int j = 0; j < kJobs; ++j) {
#pragma unroll
      for (int r = 0; r < kMatrices; ++r) {
        const T* from = from_[j][r] + step * (kChunks * kPiece);
        w[j][r][chunk] = load_weights<!kWhole>(from + chunk * kPiece, there && has(k(step, chunk)));
      }
    }
  }

  uint4 w[kJobs][kMatrices][kChunks];

 private:
  const T* from_[kJobs][kMatrices];
  int size_, k_;
};

// The dynamic shared memory: biases [matrix][row], then, from a line of 128 bytes on, sums
// [split][matrix][row][pitch] of tokens.
struct Shared {
  float* biases;
  float* sums;
  int rows, pitch, split_step;

  __device__ __forceinline__ float* sum(int split, int matrix, int row) const {
    return sums + split * split_step + (matrix * rows + row) * pitch;
  }
};

__device__ __forceinline__ int thread_index() {
  return static_cast<int>((threadIdx.z * blockDim.y + threadIdx.y) * 32 + threadIdx.x);
}
__device__ __forceinline__ int thread_count() { return static_cast<int>(blockDim.z * blockDim.y * 32); }

// Draws the first part of each of the block's rows into L2, where a later write is seen; a row a thread.
template <class T, class W>
__device__ __forceinline__ void draw_rows(const Args& args) {
  const auto bytes = static_cast<std::uint32_t>(args.drawn.row_bytes);
  for (int i = thread_index(); i < W::kMatrices * W::block_rows(); i += thread_count()) {
    const bool gate = i >= W::block_rows();
    const int row = W::block_row() + (gate ? i - W::block_rows() : i);
    if (row >= args.n) continue;
    ptx::prefetch_l2(
        static_cast<const T*>(gate ? args.gate : args.w) + row * (gate ? args.gate_stride : args.w_stride), bytes);
  }
}

// Biases of the block's rows, one of each matrix a thread: there are at least as many threads as rows. They are asked
// for beside the weights, for their first read is from memory too, and used at the end.
template <class T, class W>
struct Biases {
  __device__ __forceinline__ void load(const Args& args) {
    const int row = min(W::block_row() + min(thread_index(), W::block_rows() - 1), args.n - 1);
#pragma unroll
    for (int r = 0; r < W::kMatrices; ++r) {
      const Bias& bias = W::kMatrices == 2 && r == 0 ? args.gate_bias : args.bias;
      own[r] =
          bias.data == nullptr ? std::uint16_t{0} : static_cast<const std::uint16_t*>(bias.data)[row * bias.stride];
    }
  }
  __device__ __forceinline__ void store(const Shared& at) const {
    if (thread_index() >= W::block_rows()) return;
#pragma unroll
    for (int r = 0; r < W::kMatrices; ++r) {
      T value;
      static_assert(sizeof value == sizeof own[r]);
      std::memcpy(&value, &own[r], sizeof value);
      at.biases[r * at.rows + thread_index()] = to_float(value);
    }
  }

  std::uint16_t own[W::kMatrices];
};

// Waits as args.order says, with the weights of the first step on their way as early as that allows. The next launch
// is let in after them, for what its blocks ask of memory would delay this one's.
template <class T, class W>
__device__ __forceinline__ void begin(const Args& args, W& weights, Biases<T, W>& biases) {
  const bool leads = args.order == Order::leads;
  if (!leads) {
    if (static_cast<int>(blockIdx.x) < args.drawn.blocks) draw_rows<T, W>(args);
    ptx::grid_dependency_wait();
  }
#pragma unroll
  for (int c = 0; c < W::kChunks; ++c) weights.load(0, c);
  biases.load(args);
  ptx::grid_dependency_launch();  // the second product reads weights from here on
  if (leads) ptx::grid_dependency_wait();
}

// split_step: floats between the sums of two splits.
template <class W>
__device__ __forceinline__ Shared shared_parts(float* shared, int pitch, int split_step) {
  return {shared, shared + (W::kMatrices * W::block_rows() + kLineFloats - 1) / kLineFloats * kLineFloats,
          W::block_rows(), pitch, split_step};
}
template <class W>
__device__ __forceinline__ Shared shared_parts(float* shared, int pitch) {
  return shared_parts<W>(shared, pitch, W::kMatrices * W::block_rows() * pitch);
}

// Outputs of the block's rows from the sums; all of its threads.
template <class T, class W>
__device__ __forceinline__ void finish(const Args& args, const Shared& at) {
  constexpr int kMatrices = W::kMatrices;
  __syncthreads();
  const int first = W::block_row(), count = at.rows * args.m, splits = W::splits();
  const int matrix_step = at.rows * at.pitch;
  for (int i = thread_index(); i < count; i += thread_count()) {
    const int token = divided(i, args.row_inverse), row = i - token * at.rows;
    if (first + row >= args.n) continue;
    float sum[kMatrices];
#pragma unroll
    for (int r = 0; r < kMatrices; ++r) {
      sum[r] = at.biases[r * at.rows + row];
    }
    const float* from = at.sum(0, 0, row) + token;
#pragma unroll 4
    for (int s = 0; s < splits; ++s, from += at.split_step) {
#pragma unroll
      for (int r = 0; r < kMatrices; ++r) sum[r] += from[r * matrix_step];
    }
    float value = 0;
    with_form(args.activation.form, [&](auto form) {
      if constexpr (kMatrices == 2) {
        value = gated<decltype(form)::value>(args.activation, sum[0], sum[1]);
      } else {
        value = activate<decltype(form)::value>(args.activation, sum[0]);
      }
    });
    static_cast<T*>(args.out)[token * args.out_stride + first + row] = from_float<T>(value);
  }
}

}  // namespace fusedmlp::cuda::decode
