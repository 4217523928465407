// What a kernel is to the rest of the library, and the tables of them.
#pragma once

#include <cstddef>
#include <cstdint>
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

// What is asked of a kernel, without the data.
struct Query {
  const MlpSpec& spec;
  std::int64_t tokens;  // >= 1 where a kernel is asked to predict, to size its workspace or to run
  const DeviceInfo& device;
  int threads;  // concurrency of the executor that will run it
  bool packed;  // whether a packed copy is at hand
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
  // Arguments are validated and resolved (ldx, ldy, executor, workspace set) before this is called.
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

}  // namespace fusedmlp::core
