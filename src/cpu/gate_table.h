// Activations to the precision of bf16 storage, of the form act(x) = x S(x) with S(x) = 1/2 + q(|x|) sign(x): q as 32
// pieces of degree 3, which AVX-512 looks up in registers.
#pragma once

#include "fusedmlp/spec.h"

namespace fusedmlp::cpu {

inline constexpr int kGatePieces = 32;
inline constexpr int kGateTerms = 4;

// q(a) = c[0][j] + a (c[1][j] + a (c[2][j] + a c[3][j])), j = round(a scale), for a in [0, limit]; exactly 1/2 from
// the last piece on.
struct GateTable {
  float scale;
  float limit;
  alignas(64) float c[kGateTerms][kGatePieces];
};

// |S~ - S| <= 2^-19, so |f~(x) - f(x)| <= 2^-8 * 2^-11 |x| for gelu, gelu_tanh, quick_gelu and silu. For sigmoid and
// swiglu_oai S is the logistic function. Not for identity, relu and relu2.
const GateTable& gate_table(Activation activation);

}  // namespace fusedmlp::cpu
