// How a block brings its operands into shared memory.
//
// A stage holds kDepth of k: rows of a and of each weight as [row][k] with 128 bytes a row, or a weight [in, out] as
// [k][row]. Chunks of 16 bytes are swizzled within 128 bytes by the low bits of the slower index, so that ldmatrix
// meets no bank conflict.
#pragma once

#include <cstdint>

#include "cuda/common/numeric.cuh"
#include "cuda/ptx/cp_async.cuh"
#include "cuda/sm80/tiles.h"

namespace fusedmlp::cuda::sm80 {

constexpr unsigned kChunk = 8;                    // elements of 16 bytes
constexpr unsigned kRowBytes = kDepth * 2;        // of a [row][k] tile
constexpr unsigned kRowChunks = kDepth / kChunk;  // 8: one swizzle span

// How an operand can be read.
enum class Access : int { vectors_along_k, vectors_along_n, elements };

// A thread's share of copying kRows rows of a [rows, k] operand, stage by stage in kParts parts: chunks `step` apart
// in memory, the same distance apart in shared memory, all in one swizzle phase. The position that runs with the
// chunks (the row, or k along n) is compared with a limit.
template <class T, unsigned kRows, unsigned kThreads, bool kAlongN, int kParts>
struct VectorLoader {
  static constexpr unsigned kCopies = kRows * kRowChunks / kThreads;
  static constexpr unsigned kRun = kAlongN ? kRows / kChunk : kRowChunks;  // chunks that follow each other in memory
  static constexpr unsigned kStep = kThreads / kRun;                       // positions between a thread's chunks
  static_assert(kCopies * kThreads == kRows * kRowChunks, "every thread copies the same number of chunks");
  static_assert(kStep % 8 == 0 || kCopies == 1, "one swizzle phase");

  const T* from;
  std::int64_t step;     // elements between chunks
  std::int64_t advance;  // elements between stages
  std::uint32_t to;      // offset in the stage
  int position;          // of the first chunk
  int limit;             // positions below it are inside
  int k, k_end;          // of the chunk, along k; advances with the stages

  // rows_left: rows of the operand from `data` on.
  __device__ __forceinline__ VectorLoader(const T* data, std::int64_t row_stride, std::int64_t col_stride,
                                          int rows_left, int k_begin, int k_stop)
      : k_end(k_stop) {
    const unsigned first = threadIdx.x / kRun, chunk = threadIdx.x % kRun;
    if constexpr (kAlongN) {
      from = data + (k_begin + static_cast<int>(first)) * col_stride + chunk * kChunk;
      step = kStep * col_stride;
      advance = kDepth * col_stride;
      to = first * kRows * 2 + chunk / 8 * 128 + ((chunk % 8 ^ first % 8) << 4);
      position = k_begin + static_cast<int>(first);
      limit = static_cast<int>(chunk * kChunk) < rows_left ? k_end : 0;
      k = 0;
    } else {
      from = data + static_cast<int>(first) * row_stride + k_begin + chunk * kChunk;
      step = kStep * row_stride;
      advance = kDepth;
      to = first * kRowBytes + ((chunk ^ first % 8) << 4);
      position = static_cast<int>(first);
      limit = rows_left;
      k = k_begin + static_cast<int>(chunk * kChunk);
    }
  }

  // A part of the next stage into shared memory at `stage`; the last part is followed by the stage after it.
  // kInside: no chunk of it is outside.
  template <bool kInside>
  __device__ __forceinline__ void copy(std::uint32_t stage, int part) {
    constexpr std::uint32_t kToStep = kStep * (kAlongN ? kRows * 2 : kRowBytes);
    const int stop = k < k_end ? limit : 0;
#pragma unroll
    for (unsigned i = 0; i < kCopies; ++i) {
      if (static_cast<int>(i * kParts / kCopies) != part) continue;
      if constexpr (kInside) {
        ptx::cp_async_16(stage + to + i * kToStep, from + i * step);
      } else {
        ptx::cp_async_16(stage + to + i * kToStep, from + i * step, position + static_cast<int>(i * kStep) < stop);
      }
    }
    if (part < kParts - 1) return;
    from += advance;
    if constexpr (kAlongN) {
      position += kDepth;
    } else {
      k += kDepth;
    }
  }
};

// The same for any strides and alignment, element by element, into a [row][k] tile.
template <class T, unsigned kRows, unsigned kThreads>
struct ElementLoader {
  const T* data;
  std::int64_t row_stride, col_stride;
  int rows_left;
  int k, k_end;

  __device__ __forceinline__ ElementLoader(const T* first, std::int64_t rows_apart, std::int64_t cols_apart, int left,
                                           int k_begin, int k_stop)
      : data(first), row_stride(rows_apart), col_stride(cols_apart), rows_left(left), k(k_begin), k_end(k_stop) {}

  template <bool>
  __device__ __forceinline__ void copy(std::uint32_t stage, int part) {
    if (part > 0) return;                           // these wait for memory anyway
    const bool along_k = col_stride <= row_stride;  // neighbouring threads read neighbouring addresses
    for (unsigned i = threadIdx.x; i < kRows * kRowChunks; i += kThreads) {
      const unsigned r = along_k ? i / kRowChunks : i % kRows;
      const unsigned chunk = along_k ? i % kRowChunks : i / kRows;
      __align__(16) T values[kChunk];
#pragma unroll
      for (unsigned j = 0; j < kChunk; ++j) {
        const int at = k + static_cast<int>(chunk * kChunk + j);
        const bool inside = static_cast<int>(r) < rows_left && at < k_end;
        values[j] = inside ? data[static_cast<int>(r) * row_stride + at * col_stride] : from_float<T>(0.0f);
      }
      const auto* words = reinterpret_cast<const std::uint32_t*>(values);
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(stage + r * kRowBytes + ((chunk ^ r % 8) << 4)),
                   "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                   : "memory");
    }
    k += kDepth;
  }
};

}  // namespace fusedmlp::cuda::sm80
