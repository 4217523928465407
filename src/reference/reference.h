// The truth (fp64) and the baseline (same precision, layer by layer). The registry entry of the baseline is
// core::reference_kernel(), declared in core/kernel.h.
#pragma once

#include <cstdint>

#include "fusedmlp/spec.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::core {

// y = mlp(x) with every product, sum and activation in fp64, nothing rounded between. x has the spec's dtype;
// y is [tokens, d_out] of doubles. ldx and ldy count elements; 0 means d_in and d_out. The arguments must be
// valid (see fusedmlp::validate); throws std::bad_alloc only.
void reference_f64(const MlpSpec& spec, const MlpWeights& weights, const void* x, std::int64_t ldx, double* y,
                   std::int64_t ldy, std::int64_t tokens);

// The same, and magnitude[t * ldy + o] = sum over the hidden of |w_down[o, h]| |hidden[t, h]|: what rounding
// errors of the second product are relative to.
void reference_f64(const MlpSpec& spec, const MlpWeights& weights, const void* x, std::int64_t ldx, double* y,
                   double* magnitude, std::int64_t ldy, std::int64_t tokens);

}  // namespace fusedmlp::core
