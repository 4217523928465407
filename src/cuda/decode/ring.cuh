// The weights of both products as one stream into a warp's ring of shared memory.
//
// Every lane copies what it reads later itself, so the ring needs no barrier, and it runs on from the first product
// into the second while the blocks wait for each other. A step is one unit of k of the warp's tiles, one group of
// copies. Lane l has row l / 4 of each tile: bytes 16 (l % 4) of the first half of the unit's 128-byte line and the
// same of the second half.
#pragma once

#include "cuda/decode/plan.h"
#include "cuda/ptx/cp_async.cuh"

namespace fusedmlp::cuda::decode {

struct PhaseArgs {
  Gemm gemm;
  PhasePlan plan;
  bool gated;
  int prefetch_bytes;  // of each weight row of a block
};

struct KernelArgs {
  PhaseArgs up, down;
  ActivationArgs activation;
  int tokens;
  int ring_units;
  int ring_bytes;  // of all warps
  int bias_offset;  // bytes of shared memory before the biases
  float* partial;
  std::uint32_t* barrier;
};

// A block's part of a product.
struct BlockPart {
  int row, rows;      // output columns; none: nothing to do
  int k, units;       // first element of k, and units from there on
  int split;

  __device__ __forceinline__ BlockPart(const PhaseArgs& phase) {
    const PhasePlan& plan = phase.plan;
    const int block = static_cast<int>(blockIdx.x);
    const int all = divide_up(phase.gemm.k, kUnit);
    split = plan.splits == 1 ? 0 : block % plan.splits;
    row = (plan.splits == 1 ? block : block / plan.splits) * plan.rows;
    rows = max(0, min(plan.rows, phase.gemm.n - row));
    const int first = plan.splits == 1 ? 0 : split * all / plan.splits;
    units = plan.splits == 1 ? all : (split + 1) * all / plan.splits - first;
    k = first * kUnit;
  }
};

// Tiles of a pass: those of gate, then those of up. Tile `tile` has weight rows from `index` * kTileRows on.
struct TilePlace {
  bool gate;
  int index;

  __device__ __forceinline__ TilePlace(const PhaseArgs& phase, int tile) {
    const int half = phase.plan.pass_rows / kTileRows;
    gate = phase.gated && tile < half;
    index = phase.gated && !gate ? tile - half : tile;
  }
};
__device__ __forceinline__ int tiles_of_pass(const PhaseArgs& phase) {
  return phase.plan.pass_rows / kTileRows * (phase.gated ? 2 : 1);
}

template <class T>
class Ring {
 public:
  __device__ __forceinline__ Ring(const KernelArgs& args, std::uint32_t shared)
      : args_(args),
        base_(shared + threadIdx.x / 32 * args.ring_units * kUnitBytes + threadIdx.x % 32 * 16),
        free_(args.ring_units) {
    begin(args.up);
  }

  // Queues as many steps as there is room for.
  __device__ __forceinline__ void fill() {
    while (phase_ < 2) {
      const PhaseArgs& phase = phase_ == 0 ? args_.up : args_.down;
      if (free_ < phase.plan.tiles) return;
      copy_step(phase);
      ptx::cp_async_commit();
      ++issued_;
      free_ -= phase.plan.tiles;
      unit_ += phase.plan.warps_k;
      if (unit_ < units_) continue;
      if (++pass_ < passes_) {
        unit_ = first_unit_;
      } else if (++phase_ < 2) {
        begin(args_.down);
      }
    }
  }

  // Until the oldest step that has not been released is in shared memory.
  __device__ __forceinline__ void wait() const { ptx::cp_async_wait(issued_ - released_ - 1); }
  // Until everything queued before `issued` steps had been is.
  __device__ __forceinline__ void wait_for_older(int issued) const { ptx::cp_async_wait(issued_ - issued); }
  __device__ __forceinline__ int issued() const { return issued_; }

  // Shared-memory address of this lane's first 16 bytes of the oldest step's tile; the others are 512 bytes on.
  __device__ __forceinline__ std::uint32_t tile(int index) const {
    int slot = read_ + index;
    if (slot >= args_.ring_units) slot -= args_.ring_units;
    return base_ + slot * kUnitBytes;
  }

  __device__ __forceinline__ void release(int tiles) {
    ++released_;
    free_ += tiles;
    read_ += tiles;
    if (read_ >= args_.ring_units) read_ -= args_.ring_units;
    fill();
  }

 private:
  // Takes up a product, or goes past it when the warp has no part of it.
  __device__ __forceinline__ void begin(const PhaseArgs& phase) {
    const BlockPart part(phase);
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    first_tile_ = warp / phase.plan.warps_k * phase.plan.tiles;
    first_unit_ = warp % phase.plan.warps_k;
    units_ = part.units;
    rows_ = part.rows;
    passes_ = divide_up(part.rows, phase.plan.pass_rows);
    pass_ = 0;
    unit_ = first_unit_;
    k_left_ = phase.gemm.k - part.k - lane % 4 * 8;
    const std::int64_t row = part.row + lane / 4;
    const std::int64_t k = part.k + lane % 4 * 8;
    up_ = static_cast<const T*>(phase.gemm.w.data) + row * phase.gemm.w.row_stride + k;
    if (phase.gated) gate_ = static_cast<const T*>(phase.gemm.gate.data) + row * phase.gemm.gate.row_stride + k;
    if (part.rows == 0 || unit_ >= units_ || first_tile_ >= tiles_of_pass(phase)) {
      if (++phase_ < 2) begin(args_.down);
    }
  }

  __device__ __forceinline__ void copy_step(const PhaseArgs& phase) {
    const int lane_row = static_cast<int>(threadIdx.x) % 32 / 4;
    const int bytes = (k_left_ - unit_ * kUnit) * 2;
    const int first = max(0, min(16, bytes));
    const int second = max(0, min(16, bytes - kUnit));
    const int tiles = tiles_of_pass(phase);
#pragma unroll
    for (int j = 0; j < kMostTiles; ++j) {
      if (j >= phase.plan.tiles || first_tile_ + j >= tiles) break;
      const TilePlace place(phase, first_tile_ + j);
      const int row = pass_ * phase.plan.pass_rows + place.index * kTileRows;
      const bool inside = row + lane_row < rows_;
      const T* from = (place.gate ? gate_ + row * phase.gemm.gate.row_stride : up_ + row * phase.gemm.w.row_stride) +
                      unit_ * kUnit;
      int slot = write_ + j;
      if (slot >= args_.ring_units) slot -= args_.ring_units;
      const std::uint32_t to = base_ + slot * kUnitBytes;
      ptx::cp_async_part(to, from, inside ? first : 0);
      ptx::cp_async_part(to + kUnitBytes / 2, from + kUnit / 2, inside ? second : 0);
    }
    write_ += phase.plan.tiles;
    if (write_ >= args_.ring_units) write_ -= args_.ring_units;
  }

  const KernelArgs& args_;
  std::uint32_t base_;
  int free_;
  int issued_ = 0, released_ = 0;  // steps
  int write_ = 0, read_ = 0;       // slots
  int phase_ = 0;                  // of the next step to queue
  int pass_ = 0, passes_ = 0;
  int unit_ = 0, units_ = 0, first_unit_ = 0;
  int first_tile_ = 0;
  int rows_ = 0;
  int k_left_ = 0;  // elements from this lane's first one of the block's part on
  const T* up_ = nullptr;
  const T* gate_ = nullptr;
};

}  // namespace fusedmlp::cuda::decode
