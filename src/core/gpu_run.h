// One run of a GPU's entry on operands of the host: what checking needs. Timing is measure_entries.h.
#pragma once

#include "core/aligned_buffer.h"
#include "core/kernel.h"

namespace fusedmlp::core {

// How operands lie that are dense, [out, in] and begin at aligned addresses.
OperandLayout dense_layout(const MlpSpec& spec);

// y [tokens, d_out] of a run that is over. The weights, dense and [out, in], and x are copied to the device; y and
// the workspace are 0xff before, which is NaN, so that an element that is not written is seen. Defined by src/cuda.
Result<AlignedBuffer> run_on_cuda(const KernelEntry& entry, const Query& query, const MlpWeights& weights,
                                  const void* x);

}  // namespace fusedmlp::core
