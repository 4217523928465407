// The GPU kernels' registry entries.
#pragma once

#include "core/kernel.h"

namespace fusedmlp::cuda {

core::KernelEntry prefill_kernel();
core::KernelEntry decode_kernel();
core::KernelEntry cluster_kernel();
core::KernelEntry narrow_hopper_kernel();
core::KernelEntry narrow_kernel();
core::KernelEntry portable_kernel();
core::KernelEntry layers_kernel();

}  // namespace fusedmlp::cuda
