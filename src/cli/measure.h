// What this machine reaches: multiply-adds from registers and reads from each level of memory.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>

#include "fusedmlp/device.h"

namespace fusedmlp::cli {

struct Rate {
  double one_thread = 0;
  double all_threads = 0;
};

struct Measured {
  int threads = 1;
  // Multiply-adds a second times two. 16-bit storage is widened to fp32 on the way in, as the kernels do it.
  Rate flops[kDTypeCount];
  std::optional<Rate> tile_flops;  // the same of AMX, bf16: random operands in registers, no loads
  // Bytes a second, read over and over from a buffer of its own for each thread.
  Rate l2, l3, memory;
  double l2_bytes = 0, l3_bytes = 0, memory_bytes = 0;  // a thread's buffer, when all run
};

// Takes two or three seconds. `step` hears what is measured next.
Measured measure(const DeviceInfo& device, const std::function<void(std::string_view)>& step);

// Reads `bytes`, a multiple of 1024, once: 64-byte aligned. A value that depends on all of them.
double read_once(Isa isa, const std::byte* data, std::size_t bytes);

}  // namespace fusedmlp::cli
