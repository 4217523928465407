// Devices and what is known of them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fusedmlp/spec.h"
#include "fusedmlp/status.h"

namespace fusedmlp {
inline namespace v0 {

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {DeviceType::cuda, index}; }
  friend bool operator==(const Device&, const Device&) = default;
};

std::string to_string(Device device);           // "cpu", "cuda:0"
Result<Device> parse_device(std::string_view);  // the same names, and "cuda"

// Instruction-set classes of the CPU kernels, slowest first. `generic` is any x86-64: layer by layer only. `amx` is
// avx512 with AMX-BF16 tiles, for bf16.
enum class Isa : std::uint8_t { generic, avx2, avx512, amx };

inline constexpr int kIsaCount = 4;

const char* to_string(Isa isa) noexcept;

// Where a figure comes from.
enum class Basis : std::uint8_t { measured, modelled, unsupported };

const char* to_string(Basis basis) noexcept;

// Rates and sizes that the cost model needs. Bandwidths are bytes a second for reads.
struct DeviceInfo {
  Device device;
  std::string name;
  Isa isa = Isa::generic;      // CPU: the class in use (FUSEDMLP_ISA=generic|avx2|avx512|amx lowers it)
  std::string isa_note;        // CPU: why it cannot be Isa::amx; empty if it can
  int cores = 1;               // CPUs this process may run on; SMs on a GPU
  int compute_capability = 0;  // GPU: 10 * major + minor; 0 on the CPU
  std::size_t l1_bytes = 0;    // on a GPU the shared memory of an SM
  std::size_t l2_bytes = 0;
  std::size_t l3_bytes = 0;                      // all of it; 0 on a GPU
  double flops_per_core[kDTypeCount] = {};       // by storage dtype, multiply-add = 2; CPU: of vector instructions
  double tile_flops_per_core[kDTypeCount] = {};  // CPU: of AMX on random numbers, of AVX512-BF16; 0 without
  double l2_bandwidth_per_core = 0;
  double l3_bandwidth_per_core = 0;
  double l3_bandwidth = 0;  // all cores
  double memory_bandwidth_per_core = 0;
  double memory_bandwidth = 0;              // all cores
  double launch_seconds = 0;                // one parallel region (CPU), one kernel (GPU)
  std::size_t shared_memory_per_block = 0;  // GPU: the most one block may ask for
  Basis basis = Basis::modelled;
};

// The device as this library sees it; constants come from a committed table, nothing is measured here.
Result<DeviceInfo> describe(Device device);

// describe(Device::cpu())'s class alone, which FUSEDMLP_ISA may lower at any time: what a packed copy was made for.
Result<Isa> cpu_isa();

// Every device usable here: the CPU first, then GPUs.
std::vector<Device> devices();

}  // namespace v0
}  // namespace fusedmlp
