// The weights of both products as one stream into a warp's ring of shared memory.
//
// Every lane copies what it reads later itself, so the ring needs no barrier, and it runs on from the first product
// into the second while the blocks wait for each other. A step is kStepUnits pieces, one group of copies: a unit of k
// of each of the warp's tiles, or of fewer tiles several units. Lane l has row l / 4 of each tile: bytes 16 (l % 4)
// of the first half of the unit's 128-byte line and the same of the second half.
#pragma once

#include "cuda/decode/plan.h"
#include "cuda/ptx/cp_async.cuh"

namespace fusedmlp::cuda::decode {

struct PhaseArgs {
  Gemm gemm;
  const void* weights[2];   // one matrix, or gate and up
  std::int64_t strides[2];  // between their rows
  int gated;                // 0 or 1
  int units;                // of k in all
  int rows;                 // output columns of a block
  int pass_rows;            // of them in a pass over k
  int pass_tiles;           // weight rows of a pass in tiles; with a gate, even ones are its and odd ones are up's
  int tiles;                // of a warp
  int step_shift;           // log2 of the units of a step
  int warps_k;              // warps along k; a warp's units lie that far apart
  int warps_k_inverse;      // 2^16 / warps_k, rounded up
  int chunk_units;          // of k that the activations in shared memory span
  int buffers;              // of such chunks: 1 or 2
  int split_shift;          // log2 of the blocks that share rows, each with its part of k
  int chunk_shift;          // log2 of the threads that copy a token's activations
  int prefetch_bytes;       // of each weight row of a block
};

struct KernelArgs {
  PhaseArgs phase[2];
  ActivationArgs activation;
  int tokens;
  int depth;        // steps in a warp's ring
  int most_passes;  // of the second product
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
  int unit;         // its first

  __device__ __forceinline__ explicit WarpPart(const PhaseArgs& phase) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_n = warp * phase.warps_k_inverse >> 16;
    tile = warp_n * phase.tiles;
    tiles = min(phase.tiles, phase.pass_tiles - tile);
    unit = warp - warp_n * phase.warps_k;
  }
};

template <class T>
class Ring {
 public:
  __device__ __forceinline__ Ring(const KernelArgs& args, std::uint32_t shared) : args_(args) {
    begin_ = shared + threadIdx.x / 32 * (args.depth * kStepBytes);
    end_ = begin_ + args.depth * kStepBytes;
    const std::uint32_t row = threadIdx.x % 32 / 8;
    const std::uint32_t chunk = threadIdx.x % 8;
    lane_to_ = row * kLineBytes + ((chunk ^ (row % 2 * 4)) << 4);
    read_ = write_ = begin_;
    find_step();
  }

  // Queues the next step, or nothing behind the last one: one group of copies either way.
  __device__ __forceinline__ void queue() {
    if (left_ > 0) copy_step();
    ptx::cp_async_commit();
    ++queued_;
    write_ = next(write_);
    find_step();
  }

  // Until the oldest step is in shared memory; as many as the ring holds have been queued.
  __device__ __forceinline__ void wait() const {
    switch ((end_ - begin_) / kStepBytes) {
      case 2: ptx::cp_async_wait<1>(); break;
      case 3: ptx::cp_async_wait<2>(); break;
      default: ptx::cp_async_wait<3>(); break;
    }
    __syncwarp();  // the other lanes' copies too
  }
  // Until everything queued before `queued` steps had been is.
  __device__ __forceinline__ void wait_for_older(int queued) const { ptx::cp_async_wait(queued_ - queued); }
  __device__ __forceinline__ int queued() const { return queued_; }

  // Shared-memory address of what this lane multiplies first of the oldest step: 16 bytes of row lane / 4 of its
  // first piece. Those of the line's second half are at the address with bit 6 flipped, the next piece's kUnitBytes
  // on.
  __device__ __forceinline__ std::uint32_t oldest() const {
    const std::uint32_t row = threadIdx.x % 32 / 4;
    return read_ + row * kLineBytes + ((threadIdx.x % 4 + row % 2 * 4) << 4);
  }
  // Gives its place to a new one.
  __device__ __forceinline__ void replace_oldest() {
    __syncwarp();
    read_ = next(read_);
    queue();
  }

 private:
  __device__ __forceinline__ std::uint32_t next(std::uint32_t step) const {
    return step + kStepBytes == end_ ? begin_ : step + kStepBytes;
  }

  // Where the next step begins; nothing is read.
  __device__ __forceinline__ void find_step() {
    while (left_ <= 0) {
      if (row_ + pass_rows_ < rows_) {
        begin_pass();
      } else if (next_phase_ < 2) {
        begin_phase();
      } else {
        return;
      }
    }
  }

  __device__ __forceinline__ void begin_phase() {
    const PhaseArgs& phase = args_.phase[next_phase_++];
    rows_ = WarpPart(phase).tiles > 0 ? BlockPart(phase).rows : 0;
    pass_rows_ = phase.pass_rows;
    row_ = -pass_rows_;
  }

  __device__ __forceinline__ void begin_pass() {
    const PhaseArgs& phase = args_.phase[next_phase_ - 1];
    const BlockPart part(phase);
    const WarpPart warp(phase);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int shift = phase.step_shift;
    const int unit_step = phase.warps_k * kUnit;
    row_ += pass_rows_;
    pieces_ = warp.tiles << shift;
    step_k_ = unit_step << shift;
    full_ = step_k_ - unit_step + kUnit;
    left_ = min(phase.gemm.k - part.k, part.units * kUnit) - warp.unit * kUnit;
    const int k = part.k + warp.unit * kUnit + lane % 8 * kChunk;
    const int first = row_ + lane / 8;
#pragma unroll
    for (int s = 0; s < kStepUnits; ++s) {
      const int tile = warp.tile + (s >> shift);
      const int which = tile & phase.gated;
      const std::int64_t stride = phase.strides[which];
      // A row beyond the block's last one is the last one again: its sums are not used.
      const int row = min(rows_ - 1, first + (tile >> phase.gated) * kTileRows);
      from_[s] = static_cast<const T*>(phase.weights[which]) + (part.row + row) * stride + k +
                 (s & ((1 << shift) - 1)) * unit_step;
      to_second_[s] = (min(rows_ - 1, row + kTileRows / 2) - row) * static_cast<int>(stride / kChunk);
    }
  }

  __device__ __forceinline__ void copy_step() {
    std::uint32_t to = write_ + lane_to_;
    if (left_ >= full_) {
#pragma unroll
      for (int s = 0; s < kStepUnits; ++s) {
        if (s < pieces_) {
          ptx::cp_async_16(to + s * kUnitBytes, from_[s]);
          ptx::cp_async_16(to + s * kUnitBytes + kUnitBytes / 2, from_[s] + std::int64_t{to_second_[s]} * kChunk);
        }
        from_[s] += step_k_;
      }
    } else {  // beyond the end of k lie zeros
      const PhaseArgs& phase = args_.phase[next_phase_ - 1];
#pragma unroll 1
      for (int s = 0; s < pieces_; ++s) {
        const int unit = (s & ((1 << phase.step_shift) - 1)) * phase.warps_k;
        const int bytes = max(0, min(16, (left_ - unit * kUnit - static_cast<int>(threadIdx.x) % 8 * kChunk) * 2));
        const T* from = s < 2 ? (s == 0 ? from_[0] : from_[1]) : (s == 2 ? from_[2] : from_[3]);
        const int second =
            s < 2 ? (s == 0 ? to_second_[0] : to_second_[1]) : (s == 2 ? to_second_[2] : to_second_[3]);
        ptx::cp_async_part(to, from, bytes);
        ptx::cp_async_part(to + kUnitBytes / 2, from + std::int64_t{second} * kChunk, bytes);
        to += kUnitBytes;
      }
    }
    left_ -= step_k_;
  }

  const KernelArgs& args_;
  std::uint32_t begin_, end_;   // of the warp's ring
  std::uint32_t read_, write_;  // steps in it
  std::uint32_t lane_to_;       // where in a piece this lane copies to; its second row is kUnitBytes / 2 on
  int queued_ = 0;              // steps
  int next_phase_ = 0;          // behind the one that steps are queued of
  int rows_ = 0, row_ = 0, pass_rows_ = 0;
  int pieces_ = 0;
  int step_k_ = 0;             // elements of k between two steps
  int full_ = 0;               // that a step spans
  int left_ = 0;               // from the next step on
  const T* from_[kStepUnits];  // this lane's first row of each piece
  int to_second_[kStepUnits];  // from there to its second row, in chunks
};

}  // namespace fusedmlp::cuda::decode
