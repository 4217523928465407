// What a kernel is to the rest of the library, and the tables of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fusedmlp/device.h"
#include "fusedmlp/plan.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::core {

// A prepared copy of the weights. One layout per (dtype, ISA), shared by every kernel that reads packed weights.
struct PackedLayout {
  const char* name;
  std::size_t (*bytes)(const MlpSpec& spec, const DeviceInfo& device);
  Status (*pack)(const MlpSpec& spec, const MlpWeights& weights, const DeviceInfo& device, void* packed,
                 Executor& executor);
};

// Everything a kernel reads. `packed` follows the entry's layout, or is null: pack on the fly.
struct Problem {
  const MlpSpec& spec;
  const MlpWeights& weights;
  const void* packed;
};

// How the operands lie, as far as a kernel may depend on it. The default is the best case: what a question without
// tensors is about. The CPU's kernels take any layout and are always asked with the default.
struct OperandLayout {
  int alignment = 16;           // bytes: the largest power of two up to 16 that divides the address and the row
                                // stride of x, y and every weight matrix
  bool in_out = false;          // some weight matrix is [in, out]
  bool joined = false;          // gate and up are one matrix, in spec.gate_order
  bool strided_biases = false;  // some bias has gaps (a joined one in interleaved order has none)

  friend bool operator==(const OperandLayout&, const OperandLayout&) = default;
};
OperandLayout layout_of(const MlpSpec& spec, const MlpWeights& weights, const RunArgs& args);

// What is asked of a kernel, without the data.
struct Query {
  const MlpSpec& spec;
  std::int64_t tokens;  // >= 1 where a kernel is asked to predict, to size its workspace or to run
  const DeviceInfo& device;
  int threads;  // concurrency of the executor that will run it; 1 on a GPU
  bool packed;  // whether a packed copy is at hand
  OperandLayout operands = {};
};

enum class Bound : std::uint8_t { overhead, memory, compute };
const char* to_string(Bound bound) noexcept;

struct Prediction {
  double seconds = 0;
  Bound bound = Bound::compute;
  Basis basis = Basis::modelled;
};

struct KernelEntry {
  const char* name;            // "cpu.rows"; what FUSEDMLP_KERNEL takes
  const char* summary;         // one line for explain
  const PackedLayout* layout;  // null: reads the caller's weights only
  // Empty when supported, else the reason in words.
  std::string (*unsupported)(const Query& query);
  std::size_t (*workspace_bytes)(const Query& query);
  Prediction (*predict)(const Query& query);
  // Arguments are validated and resolved (ldx, ldy, workspace set; the executor too on the CPU) before this is
  // called. On a GPU it queues work on args.stream, whatever device is current, and returns.
  Status (*run)(const Problem& problem, const RunArgs& args, const DeviceInfo& device);
};

// Ordered; the last entry of each is the layer-by-layer reference, which supports everything.
std::span<const KernelEntry> kernels(DeviceType type);

// Defined by src/cpu, src/cuda and src/reference; core names them so that nothing of core includes a backend.
std::span<const KernelEntry> cpu_kernels();
std::span<const KernelEntry> cuda_kernels();
const KernelEntry& reference_kernel();
std::vector<Device> cuda_devices();
Result<DeviceInfo> describe_cuda(int index);
// SMs that work queued on the stream may use where these are fewer than the GPU's: a green context's. 0: all of them.
int cuda_stream_cores(int index, void* stream);

// Device memory for runs without a workspace of the caller's. One block for each stream and capture: work on one
// stream is in order, so its runs may share; what another stream or a captured graph may still use is not touched.
class DeviceArena {
 public:
  virtual ~DeviceArena() = default;
  // At least `bytes`, 256-byte aligned, for work that is queued on `stream` next. Legal from several threads, and
  // while the stream is being captured.
  virtual Result<void*> workspace(std::size_t bytes, void* stream) = 0;
};
Result<std::unique_ptr<DeviceArena>> make_cuda_arena(int index);

}  // namespace fusedmlp::core
