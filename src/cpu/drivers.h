// The CPU's kernels and what their predictions share.
#pragma once

#include <cstdint>
#include <string>

#include "core/kernel.h"

namespace fusedmlp::cpu {

const core::KernelEntry& rows_kernel();
const core::KernelEntry& columns_kernel();
const core::KernelEntry& amx_rows_kernel();
const core::KernelEntry& amx_columns_kernel();
const core::KernelEntry& dot_rows_kernel();
const core::KernelEntry& dot_columns_kernel();

// The first two need a vector instruction set.
std::string unsupported_isa(const core::Query& query);

// Share of the multiply-add peak that full tiles reach on operands in L1 and L2.
inline constexpr double kProductEfficiency = 0.92;
// Making a panel on the fly costs about as much as computing this many rows of it.
inline constexpr double kUnpackedPenaltyRows = 24;

// Share of that again when `rows` rows are cut into tiles: three rows or fewer cannot fill the multiply-add
// pipes.
double tile_efficiency(std::int64_t rows, int tile_rows);

}  // namespace fusedmlp::cpu
