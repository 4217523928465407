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
  bool gated;
  int units;            // of k in all
  int rows;             // output columns of a block
  int pass_rows;        // of them in a pass over k
  int pass_tiles;       // weight rows of a pass in tiles: those of gate, then those of up
  int tiles;            // of a warp
  int warps_k;          // warps along k
  int warps_k_inverse;  // 2^16 / warps_k, rounded up
  int chunk_units;      // of k that the activations in shared memory span
  int buffers;          // of such chunks: 1 or 2
  int split_shift;      // log2 of the blocks that share rows, each with its part of k
  int prefetch_bytes;   // of each weight row of a block
};

struct KernelArgs {
  PhaseArgs phase[2];
  ActivationArgs activation;
  int tokens;
  int ring_units;
  int ring_bytes;   // of all warps
  int bias_offset;  // bytes of shared memory before the biases
  bool has_bias;
  float* partial;
  std::uint32_t* barrier;
};

// A block's part of a product.
struct BlockPart {
  int row, rows;  // output columns; none: nothing to do
  int k, units;   // first element of k, and units from there on
  int split;

  __device__ __forceinline__ explicit BlockPart(const PhaseArgs& phase) {
    const int block = static_cast<int>(blockIdx.x);
    split = block & ((1 << phase.split_shift) - 1);
    row = (block >> phase.split_shift) * phase.rows;
    rows = max(0, min(phase.rows, phase.gemm.n - row));
    const int first = split * phase.units >> phase.split_shift;
    units = ((split + 1) * phase.units >> phase.split_shift) - first;
    k = first * kUnit;
  }
};

// A warp's part of its block's.
struct WarpPart {
  int tile, tiles;  // of a pass; none or less: nothing to do
  int unit;         // its first; the next one is warps_k on

  __device__ __forceinline__ explicit WarpPart(const PhaseArgs& phase) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_n = warp * phase.warps_k_inverse >> 16;
    tile = warp_n * phase.tiles;
    tiles = min(phase.tiles, phase.pass_tiles - tile);
    unit = warp - warp_n * phase.warps_k;
  }
};

template <class T, int kTiles>
class Ring {
 public:
  __device__ __forceinline__ Ring(const KernelArgs& args, std::uint32_t shared)
      : args_(args), free_(args.ring_units), bytes_(args.ring_units * kUnitBytes) {
    base_ = shared + threadIdx.x / 32 * bytes_ + threadIdx.x % 32 * 16;
    read_ = write_ = base_;
  }

  // Queues as many steps as there is room for.
  __device__ __forceinline__ void fill() {
#pragma unroll 1
    for (;;) {
      if (unit_ >= units_) {
        if (row_ + pass_rows_ < rows_) {
          begin_pass();
        } else {
          if (next_phase_ == 2) return;
          begin_phase();
        }
        continue;
      }
      if (free_ < tiles_) return;
      copy_step();
    }
  }

  // Until the oldest step that has not been released is in shared memory.
  __device__ __forceinline__ void wait() const { ptx::cp_async_wait(issued_ - released_ - 1); }
  // Until everything queued before `issued` steps had been is.
  __device__ __forceinline__ void wait_for_older(int issued) const { ptx::cp_async_wait(issued_ - issued); }
  __device__ __forceinline__ int issued() const { return issued_; }

  // Shared-memory addresses of this lane's first 16 bytes of the oldest step's tiles; the others are 512 bytes on.
  template <int kCount>
  __device__ __forceinline__ void tiles(std::uint32_t (&at)[kCount]) const {
    std::uint32_t slot = read_;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      at[j] = slot;
      slot = next(slot);
    }
  }

  __device__ __forceinline__ void release(int tiles) {
    ++released_;
    free_ += tiles;
    read_ += tiles * kUnitBytes;
    if (read_ >= base_ + bytes_) read_ -= bytes_;
  }

 private:
  __device__ __forceinline__ std::uint32_t next(std::uint32_t slot) const {
    return slot + kUnitBytes == base_ + bytes_ ? base_ : slot + kUnitBytes;
  }

  __device__ __forceinline__ void begin_phase() {
    const PhaseArgs& phase = args_.phase[next_phase_++];
    const BlockPart part(phase);
    const WarpPart warp(phase);
    tiles_ = warp.tiles;
    rows_ = tiles_ > 0 ? part.rows : 0;
    pass_rows_ = phase.pass_rows;
    row_ = -pass_rows_;
    unit_ = units_ = part.units;
  }

  __device__ __forceinline__ void begin_pass() {
    const PhaseArgs& phase = args_.phase[next_phase_ - 1];
    const BlockPart part(phase);
    const WarpPart warp(phase);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int half = phase.pass_rows / kTileRows;
    const int k = part.k + warp.unit * kUnit + lane % 4 * 8;
    row_ += pass_rows_;
    unit_ = warp.unit;
    unit_step_ = phase.warps_k;
    bytes_left_ = (phase.gemm.k - k) * 2;
    inside_ = 0;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int tile = warp.tile + j;
      const bool gate = phase.gated && tile < half;
      const int row = row_ + (phase.gated && !gate ? tile - half : tile) * kTileRows + lane / 4;
      const Weight& w = gate ? phase.gemm.gate : phase.gemm.w;
      from_[j] = static_cast<const T*>(w.data) + (part.row + row) * w.row_stride + k;
      if (row < rows_) inside_ |= 1u << j;
    }
  }

  __device__ __forceinline__ void copy_step() {
    const int first = max(0, min(16, bytes_left_));
    const int second = max(0, min(16, bytes_left_ - kUnit));
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      if (j < tiles_) {
        const bool inside = (inside_ >> j & 1) != 0;
        ptx::cp_async_part(write_, from_[j], inside ? first : 0);
        ptx::cp_async_part(write_ + kUnitBytes / 2, from_[j] + kUnit / 2, inside ? second : 0);
        from_[j] += unit_step_ * kUnit;
        write_ = next(write_);
      }
    }
    ptx::cp_async_commit();
    ++issued_;
    free_ -= tiles_;
    unit_ += unit_step_;
    bytes_left_ -= unit_step_ * kUnit * 2;
  }

  const KernelArgs& args_;
  int free_;                          // slots
  std::uint32_t bytes_, base_;        // of this lane's part of the warp's ring
  std::uint32_t read_, write_;        // shared-memory addresses of slots
  int issued_ = 0, released_ = 0;     // steps
  int next_phase_ = 0;
  int tiles_ = 0;                     // of the phase that steps are queued of
  int rows_ = 0, row_ = 0, pass_rows_ = 0;
  int unit_ = 0, units_ = 0, unit_step_ = 0;
  int bytes_left_ = 0;  // of the row from this lane's first 16 of the next step on
  unsigned inside_ = 0;  // bit j: this lane's row of tile j is one of the block's
  const T* from_[kTiles];
};

}  // namespace fusedmlp::cuda::decode
