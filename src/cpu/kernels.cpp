// The ordered table of CPU kernels.
#include "core/kernel.h"
#include "cpu/drivers.h"
#include "cpu/panels.h"

namespace fusedmlp::cpu {

std::string unsupported_isa(const core::Query& query) {
  if (query.device.isa != Isa::generic) return {};
  return "needs AVX2 or AVX-512; this CPU, or FUSEDMLP_ISA, offers neither";
}

double tile_efficiency(std::int64_t rows, int tile_rows) {
  const std::int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  const double mean = static_cast<double>(rows) / static_cast<double>(tiles);
  return mean > 3 ? 1.0 : 0.75;
}

}  // namespace fusedmlp::cpu

namespace fusedmlp::core {

std::span<const KernelEntry> cpu_kernels() {
  static const KernelEntry table[] = {cpu::columns_kernel(),  cpu::rows_kernel(),        cpu::amx_columns_kernel(),
                                      cpu::amx_rows_kernel(), cpu::dot_columns_kernel(), cpu::dot_rows_kernel(),
                                      reference_kernel()};
  return table;
}

}  // namespace fusedmlp::core
