#include "call.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <vector>

namespace fusedmlp::pytorch {
namespace {

Tensor make_output(const TensorInfo& x, const Problem& problem) {
  std::array<std::int64_t, 8> small;
  std::vector<std::int64_t> large;
  std::int64_t* shape = small.data();
  if (x.dim > static_cast<std::int64_t>(small.size())) {
    large.resize(static_cast<std::size_t>(x.dim));
    shape = large.data();
  }
  std::copy(x.sizes, x.sizes + x.dim, shape);
  shape[x.dim - 1] = problem.spec.d_out;
  return empty(shape, x.dim, x.dtype, problem.device);
}

}  // namespace

void check(const Status& status) {
  if (status) return;
  fail(status.argument().empty() ? to_string(status.code()) : status.argument().c_str(), status.message());
}

RowsCall::RowsCall(const Tensor& x, const TensorInfo& info, const Problem& problem) : y(make_output(info, problem)) {
  Rows rows = rows_of(info);
  const void* data = info.data;
  if (!rows.in_place) {
    dense = torch::stable::contiguous(x);
    data = dense->data_ptr();
    rows.stride = problem.spec.d_in;
  }
  args.x = data;
  args.ldx = rows.stride;
  args.y = y.data_ptr();
  args.tokens = rows.count;
}

}  // namespace fusedmlp::pytorch
