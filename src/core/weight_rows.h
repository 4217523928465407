// Gate and up as two [d_hidden, d_in] matrices, however the caller holds them.
#pragma once

#include "core/numeric.h"
#include "fusedmlp/weights.h"

namespace fusedmlp::core {

// The hidden's weights with packed and interleaved forms resolved. `gate` and its bias are empty for a plain
// MLP; an absent bias has data == nullptr.
struct HiddenWeights {
  MatrixView gate;
  MatrixView up;
  VectorView bias_gate;
  VectorView bias_up;
};

// The weights must be valid. A view of an interleaved [in, out] matrix has no unit stride.
HiddenWeights resolve(const MlpSpec& spec, const MlpWeights& weights);

// Valid weights with the strides of extents of 1 made plain, so that a matrix has col_stride == 1 or
// row_stride == 1. Such a stride is never multiplied by anything but 0, and frameworks leave any value there.
MlpWeights normalized(const MlpWeights& weights);

// The bytes a view spans, from its first element to past its last; empty for an absent one.
struct ByteRange {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  bool overlaps(const ByteRange& other) const { return begin < other.end && other.begin < end; }
};

ByteRange bytes_of(const MatrixView& view, DType dtype);
ByteRange bytes_of(const VectorView& view, DType dtype);

}  // namespace fusedmlp::core
