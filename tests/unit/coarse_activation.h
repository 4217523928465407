// The activations of gate_table-inl.h as functions on arrays.
#pragma once

#include <cstdint>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cpu {

// out[i] = act(gate[i]), or the hidden of a gated MLP; n is a multiple of 16. The CPU must be of that ISA.
void coarse_activation(Isa isa, const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n);

}  // namespace fusedmlp::cpu
