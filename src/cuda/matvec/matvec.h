// One launch for an MLP of one or two tokens on the fp32 lanes: what a launch is asked for.
//
// Every block owns rows of both products; a grid-wide barrier lies between them. In a block a job is one row of the
// output (for a gated first product a row of gate and one of up), shared by `splits` warps along k. A warp reads 256
// elements of a row at a time, a "chunk": 512 bytes without a gap.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include "cuda/common/activations.h"
#include "cuda/common/two_gemms.h"
#include "fusedmlp/device.h"

namespace fusedmlp::cuda::matvec {

inline constexpr char kName[] = "cuda.matvec";
inline constexpr int kMostTokens = 2;
inline constexpr int kChunk = 256;    // elements of k that a warp reads at once
inline constexpr int kStepLoads = 8;  // 16-byte loads that a lane of the streaming kernel has in each of two buffers

// A kernel for one token that holds all weights of a warp in registers: how many chunks and jobs a warp may have.
struct Resident {
  bool gated, plain;  // which MLPs it is compiled for
  int up_chunks, up_jobs;
  int down_chunks, down_jobs;
  int threads;
};
inline constexpr Resident kResident[] = {
    {true, true, 3, 2, 6, 1, 384}, {true, false, 4, 1, 4, 2, 384}, {false, true, 4, 2, 8, 1, 512}};
inline constexpr int kStreaming = static_cast<int>(std::size(kResident));  // the form that takes any size
inline constexpr int kStreamingThreads = 512;

struct Phase {
  int rows;    // of a block
  int splits;  // warps that share a job
  int groups;  // jobs that run at once
  int steps;   // of a job in the streaming kernel
};

struct Plan {
  int form = kStreaming;  // of kResident, or kStreaming
  int blocks = 0;
  int threads = 0;
  Phase up{}, down{};
  std::size_t shared_bytes = 0;
  double seconds = 0;  // predicted
};

// Empty (blocks 0) where the activations do not fit the shared memory.
Plan choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device);

std::string describe(const Plan& plan);  // for a recording

struct Call {
  TwoGemms products;
  ActivationArgs activation;
  bool gated = false;
  Plan plan;
  std::uint32_t* barrier = nullptr;  // a slot of common/barrier_slot.h
  std::size_t most_shared = 0;       // of a block on this device
  bool overlaps_predecessor = false;
};

// Queue the MLP on the stream.
Status mlp_bf16(const Call& call, cudaStream_t stream);
Status mlp_f16(const Call& call, cudaStream_t stream);

}  // namespace fusedmlp::cuda::matvec
