// How far a correct kernel may be from the truth: the truth in fp64 with a rigorous bound beside every element,
// and the comparison of a kernel's output with both.
//
// The bound follows the rounding errors through the two products (Higham, Accuracy and Stability of Numerical
// Algorithms, ch. 3). Write u = 2^-24 for the unit of fp32, s for half the storage epsilon, and
// gamma(n) = n u / (1 - n u), which bounds the relative error of n roundings in any order of summation:
//   z   = x w + b                 |dz| <= gamma(d_in + 2) (|x| |w| + |b|)
//   f(z)                          |df| <= L |dz| + fast,   L = sup |f'|,
//                                 fast  = 2^-23 max(|f(z)|, k |z|), the promise of a form evaluated in fp32
//   h   = f(gate) up              |dh| <= |df| |up| + |f| |du| + |df| |du| + u |h|, then s |h| if stored
//   y   = h w + b                 |dy| <= |w| |dh| + gamma(d_hidden + 2) (|w| |h| + |b|) + s |y|
// So |dy| <= c eps (|w| |h| + |y|) with a c that this file works out for each element from its own inputs, which
// also covers cancellation inside z, where no constant c would do.
#pragma once

#include <cstdint>
#include <vector>

#include "fusedmlp/spec.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::core {

// Which roundings to storage precision a kernel may make besides that of y.
enum class Roundings : std::uint8_t {
  fused,           // the hidden may be stored, as an operand of the second product
  layer_by_layer,  // every layer's output: gate, up, f(gate), hidden
};

struct Truth {
  std::vector<double> y;  // [tokens, d_out]
  std::vector<double>
      bound;  // [tokens, d_out]: the largest |y - truth| of a correct kernel; inf where y is not finite
};

// x has the spec's dtype and row stride ldx (elements, 0 means d_in). The arguments must be valid.
Truth truth_with_bound(const MlpSpec& spec, const MlpWeights& weights, const void* x, std::int64_t ldx,
                       std::int64_t tokens, Roundings roundings);

// k of the promise |f~(x) - f(x)| <= 2^-23 max(|f(x)|, k |x|) of the kernels' fast forms; tests hold them to it.
inline constexpr double kFastFormK = 2;

struct Deviation {
  double norm = 0;               // ||y - truth|| / ||truth|| over the finite elements; 0 / 0 is 0
  double worst_ratio = 0;        // largest |y - truth| / bound
  std::int64_t worst = -1;       // element of worst_ratio, row * d_out + column
  std::int64_t kind_errors = 0;  // NaN or an infinity where the truth has none, or the other way round
  std::int64_t first_kind_error = -1;
};

Deviation compare(const Truth& truth, const MlpSpec& spec, const void* y, std::int64_t ldy, std::int64_t tokens);

// The largest norm accepted: twice that of the same-precision layer-by-layer reference, plus eps. A norm is a
// statistic: over fewer than 64 independent values one lucky rounding of the reference would decide, and the
// element's bound alone is asked for (infinity).
double norm_limit(const MlpSpec& spec, std::int64_t tokens, double reference_norm);

}  // namespace fusedmlp::core
