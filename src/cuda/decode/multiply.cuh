// A block's product of a few tokens and its weight rows.
//
// By mma.sync with tokens as the 16 rows of the first operand and 8 weight rows as the columns of the second. Where
// the instruction wants k in pairs (2t, 2t + 1) and (2t + 8, 2t + 9) of 16, both operands give the 16 bytes that lane
// t of 4 holds: k is permuted alike in both, and a lane reads whole 16-byte pieces of its row.
//
// Sums are taken in an order that depends on the plan alone.
#pragma once

#include <type_traits>

#include "cuda/common/numeric.cuh"
#include "cuda/decode/ring.cuh"
#include "cuda/ptx/mma.cuh"

namespace fusedmlp::cuda::decode {

__device__ __forceinline__ uint4 load_shared(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// `units` of k of every token into shared memory, from element `k` on.
template <class T>
__device__ __forceinline__ void load_activations(const PhaseArgs& phase, int k, int units, std::uint32_t to,
                                                 int pitch) {
  const int threads = 1 << phase.chunk_shift;  // of a row
  const int thread = static_cast<int>(threadIdx.x);
  const int chunks = units * (kUnit / kChunk);  // of 16 bytes in a row
  const int left = phase.gemm.k - k;
  const int rows = static_cast<int>(phase.gemm.m);
  const int row_step = static_cast<int>(blockDim.x) >> phase.chunk_shift;
  int row = thread >> phase.chunk_shift;
  if (row >= row_step) return;
  for (; row < rows; row += row_step) {
    const T* from = static_cast<const T*>(phase.gemm.a) + row * phase.gemm.lda + k;
    for (int chunk = thread & (threads - 1); chunk < chunks; chunk += threads) {
      ptx::cp_async_part(to + row * pitch + chunk * 16, from + chunk * 8, max(0, min(16, (left - chunk * 8) * 2)));
    }
  }
}

// How the sums of a pass lie, in shared memory as among splits: [tile][16 tokens][lane][value], as the products give
// them: value e of lane l is token l / 4 + 8 (e / 2), row 2 (l % 4) + e % 2 of the tile.
template <int kClass>
struct Sums {
  static constexpr int kBlocks = kClass == 8 ? 1 : kClass / 16;  // of 16 tokens
  static constexpr int kValues = kClass == 8 ? 2 : 4;            // a lane; with 8 tokens the upper ones are none
  static_assert(32 * kValues == sum_floats(kClass));
  struct __align__(4 * kValues) Values {
    float v[kValues];
  };
};

// Adds a step, kUnits units of each of kTiles tiles: this lane's part of the first piece at `weights`; the
// activations of the first unit at `activations` + rows[.], of the next ones `apart` bytes on. Units from `units` on
// are none of the product's. Every piece has sums of its own, so that few of the products wait for each other.
template <class T, int kClass, int kTiles, int kUnits, int kSets, int kBlocks>
__device__ __forceinline__ void multiply_step(std::uint32_t weights, std::uint32_t activations, int apart, int units,
                                              const std::uint32_t (&rows)[kClass / 8],
                                              float (&sums)[kSets][kStepUnits][kBlocks][4]) {
  constexpr int kBuffers = kUnits == 1 && kBlocks > 1 ? 2 : 1;  // of 16 tokens' activations
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint4 b[kTiles * kUnits], low[kBuffers][kUnits], high[kBuffers][kUnits];
    const auto load_rows = [&](int m) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const std::uint32_t at = activations + (u < units ? u * apart : 0) + half * (kLineBytes / 2);
        low[m % kBuffers][u] = load_shared(at + rows[2 * m]);
        high[m % kBuffers][u] = kClass == 8 ? uint4{} : load_shared(at + rows[(2 * m + 1) % (kClass / 8)]);
      }
    };
#pragma unroll
    for (int s = 0; s < kTiles * kUnits; ++s)
      b[s] = load_shared((weights ^ half * (kLineBytes / 2)) + s * kUnitBytes);
    if (kBuffers == 2) load_rows(0);
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
      if (kBuffers == 1) load_rows(m);
      if (kBuffers == 2 && m + 1 < kBlocks) load_rows(m + 1);
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if (u > 0 && u >= units) break;
        const uint4 l = low[m % kBuffers][u], h = high[m % kBuffers][u];
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const int s = j * kUnits + u;
          ptx::mma_m16n8k16<T>(sums[0][s][m], {l.x, h.x, l.y, h.y}, b[s].x, b[s].y);
        }
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const int s = j * kUnits + u;
          ptx::mma_m16n8k16<T>(sums[kSets - 1][s][m], {l.z, h.z, l.w, h.w}, b[s].z, b[s].w);
        }
      }
    }
  }
}

// One pass over k of the block's rows: their sums to shared memory, where the activations were. meanwhile() is called
// while the first operands are under way.
template <class T, int kClass, class Meanwhile>
__device__ __forceinline__ void multiply(const PhaseArgs& phase, const BlockPart& part, int tokens, Ring<T>& ring,
                                         unsigned char* activations, const Meanwhile& meanwhile) {
  constexpr int kBlocks = Sums<kClass>::kBlocks;
  constexpr int kHalves = kClass / 8;
  constexpr int kSets = kClass <= 16 ? 2 : 1;  // of sums, so that products need not wait for each other
  constexpr int kUnitStep = kUnit * 2;         // bytes
  const WarpPart warp(phase);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int chunk_units = phase.chunk_units;
  const int buffer_mask = phase.buffers - 1;
  const int step_shift = phase.step_shift;
  const int warps_k = phase.warps_k;
  const int inverse = phase.warps_k_inverse;
  const int pitch = activation_pitch(chunk_units);
  const std::uint32_t shared = ptx::shared_address(activations);
  std::uint32_t rows[kHalves];  // beyond the last token the last one again: those sums are not used
#pragma unroll
  for (int i = 0; i < kHalves; ++i) rows[i] = min(8 * i + lane / 4, tokens - 1) * pitch + lane % 4 * 16;

  float sums[kSets][kStepUnits][kBlocks][4] = {};
  int loaded = 0;  // steps queued before the newest chunk of activations
  int unit = warp.tiles > 0 ? warp.unit : part.units;
  // Before chunk 0 nothing is multiplied; while a chunk is, the next one is under way.
#pragma unroll 1
  for (int chunk = -1; chunk * chunk_units < part.units; ++chunk) {
    const int first = (chunk + 1) * chunk_units;  // of the next chunk
    if (chunk >= 0) {
      ring.wait_for_older(loaded);
      __syncthreads();
    }
    if (first < part.units) {
      load_activations<T>(phase, part.k + first * kUnit, min(chunk_units, part.units - first),
                          shared + ((chunk + 1) & buffer_mask) * tokens * pitch, pitch);
      ptx::cp_async_commit();
      loaded = ring.queued();
    }
    if (chunk < 0) {
      meanwhile();
      continue;
    }
    const int end = min(part.units, first);
    const std::uint32_t buffer = shared + (chunk & buffer_mask) * tokens * pitch - chunk * chunk_units * kUnitStep;
#pragma unroll 1
    for (; unit < end; unit += warps_k << step_shift) {
      ring.wait();
      const std::uint32_t at = buffer + unit * kUnitStep;
      const int apart = warps_k * kUnitStep;
      // How many units of k the step really has: all but in the end, warps_k apart.
      const int units = step_shift == 0 ? 1 : (min(end - unit - 1, 3 * warps_k) * inverse >> 16) + 1;
      if (warp.tiles == 4) {
        multiply_step<T, kClass, 4, 1>(ring.oldest(), at, apart, units, rows, sums);
      } else if (warp.tiles == 3) {
        multiply_step<T, kClass, 3, 1>(ring.oldest(), at, apart, units, rows, sums);
      } else if (step_shift == 2) {
        multiply_step<T, kClass, 1, 4>(ring.oldest(), at, apart, units, rows, sums);
      } else if (warp.tiles == 2) {
        if (step_shift == 1) {
          multiply_step<T, kClass, 2, 2>(ring.oldest(), at, apart, units, rows, sums);
        } else {
          multiply_step<T, kClass, 2, 1>(ring.oldest(), at, apart, units, rows, sums);
        }
      } else if (step_shift == 1) {
        multiply_step<T, kClass, 1, 2>(ring.oldest(), at, apart, units, rows, sums);
      } else {
        multiply_step<T, kClass, 1, 1>(ring.oldest(), at, apart, units, rows, sums);
      }
      ring.replace_oldest();
    }
  }

  __syncthreads();  // the activations have been read
  using Values = typename Sums<kClass>::Values;
  Values* const all =
      reinterpret_cast<Values*>(activations) + (warp.unit * phase.pass_tiles + warp.tile) * kBlocks * 32 + lane;
  const auto store = [&](auto tiles, auto units) {  // of a step
#pragma unroll
    for (int j = 0; j < tiles.value; ++j) {
      if (j >= warp.tiles) break;
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        Values values{};
#pragma unroll
        for (int e = 0; e < Sums<kClass>::kValues; ++e) {
#pragma unroll
          for (int u = 0; u < units.value; ++u) {
#pragma unroll
            for (int set = 0; set < kSets; ++set) values.v[e] += sums[set][j * units.value + u][m][e];
          }
        }
        all[(j * kBlocks + m) * 32] = values;
      }
    }
  };
  using std::integral_constant;
  if (step_shift == 0) {
    store(integral_constant<int, 4>(), integral_constant<int, 1>());
  } else if (step_shift == 1) {
    store(integral_constant<int, 2>(), integral_constant<int, 2>());
  } else {
    store(integral_constant<int, 1>(), integral_constant<int, 4>());
  }
  __syncthreads();
}

// What the warps along k have summed: lane `item` % 32 of 16 tokens and a tile, item / 32, and in `second` the same
// of the item `apart` on; `second` is left alone where `apart` is 0.
template <int kClass>
__device__ __forceinline__ void sum_of_warps(const unsigned char* activations, int item, int apart, int stride,
                                             int warps_k, typename Sums<kClass>::Values& first,
                                             typename Sums<kClass>::Values& second) {
  const auto* from = reinterpret_cast<const typename Sums<kClass>::Values*>(activations) + item;
#pragma unroll 4
  for (int w = 0; w < warps_k; ++w) {
#pragma unroll
    for (int e = 0; e < Sums<kClass>::kValues; ++e) {
      first.v[e] += from[w * stride].v[e];
      if (apart > 0) second.v[e] += from[w * stride + apart].v[e];
    }
  }
}

}  // namespace fusedmlp::cuda::decode
