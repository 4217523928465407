#include "trace/node_shapes.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace fusedmlp::trace {
namespace {

using Dims = std::vector<std::int64_t>;

// Sizes above are damage, not tensors; products of what is below stay in range.
constexpr std::int64_t kMaxElements = std::int64_t{1} << 50;

std::int64_t elements(const Dims& dims, std::size_t count) {
  double product = 1;
  std::int64_t exact = 1;
  for (std::size_t i = 0; i < count; ++i) {
    if (dims[i] < 0) return -1;
    product *= static_cast<double>(dims[i]);
    if (product > static_cast<double>(kMaxElements)) return -1;
    exact *= dims[i];
  }
  return exact;
}
// A width that does not fit is not one.
std::int32_t width_of(std::int64_t size) {
  return size > std::numeric_limits<std::int32_t>::max() ? -1 : static_cast<std::int32_t>(size);
}

std::int64_t elements(const Dims& dims) { return elements(dims, dims.size()); }

const Dims* input(const Shapes* shapes, int index) {
  if (shapes == nullptr || index < 0 || index >= static_cast<int>(shapes->size())) return nullptr;
  const Dims& dims = (*shapes)[static_cast<std::size_t>(index)];
  return dims.empty() ? nullptr : &dims;
}

// One row a matrix, on either side: every row has weights of its own, picked among experts.
void read_row_by_row(Node& node) {
  if (node.batch <= 1 || (node.m != 1 && node.n != 1)) return;
  if (node.m != 1) node.n = width_of(node.m);
  node.m = node.batch;
  node.batch = -1;
  node.experts = true;
}

void read_product(const Shapes* shapes, const Shapes* strides, std::string_view name, const OpKind& kind,
                  Node& node) {
  const Dims* left = input(shapes, kind.a);
  const Dims* right = input(shapes, kind.b);
  if (left != nullptr && right != nullptr) {
    const std::size_t rank = right->size();
    const std::size_t batched = rank > 2 && left->size() > 2 ? left->size() - 2 : 0;
    node.k = width_of(left->back());
    node.m = elements(Dims(left->begin() + static_cast<std::ptrdiff_t>(batched), left->end() - 1));
    if (rank == 1) {
      node.n = 1;
    } else {
      node.n = width_of((*right)[kind.transposed ? rank - 2 : rank - 1]);
      const std::int64_t inner = (*right)[kind.transposed ? rank - 1 : rank - 2];
      if (inner != node.k || node.n < 0) node.m = node.k = node.n = -1;
    }
    if (rank > 2) node.batch = width_of(elements(*right, rank - 2));
    read_row_by_row(node);
  }
  if (kind.c < 0) {
    node.bias_known = true;
    return;
  }
  const bool added = name.find("add") != std::string_view::npos;  // addmm, baddbmm: always adds its first input
  const Dims* row = input(shapes, kind.c);
  if (row == nullptr) {
    node.bias_known = added || shapes != nullptr;
    node.bias = added;
    return;
  }
  // A matrix added on may be a residual; Inductor passes a bias as a matrix whose rows are the same memory.
  const Dims* row_strides = input(strides, kind.c);
  const bool one_row = row->size() == 1 || elements(*row, row->size() - 1) == 1;
  const bool repeated = row_strides != nullptr && row_strides->size() > 1 && row_strides->front() == 0;
  node.bias = node.bias_known = one_row || repeated;
}

bool is_number(std::string_view text, double value) {
  double parsed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  return error == std::errc() && std::abs(parsed - value) < 1e-9;
}

// A multiplication by a scalar is a scale, an addition of a row a bias, and so on.
void read_pointwise(const Shapes* shapes, std::string_view concrete, const OpKind& kind, Node& node) {
  if (shapes == nullptr) return;
  node.vague = false;
  const Dims* largest = nullptr;
  for (const Dims& dims : *shapes) {
    if (!dims.empty() && (largest == nullptr || elements(dims) > elements(*largest))) largest = &dims;
  }
  if (largest == nullptr) {
    node.op_class = OpClass::boundary;  // scalars only: not the hidden
    return;
  }
  node.elements = elements(*largest);
  node.width = width_of(largest->back());
  if (kind.fused || kind.half) return;
  if (kind.steps == bit(Step::power)) {
    const std::string_view exponent = list_item(concrete, 1);
    if (is_number(exponent, 2)) node.steps = bit(Step::square);
    return;
  }
  const bool two =
      kind.steps == bit(Step::multiply) || kind.steps == bit(Step::add) || kind.steps == bit(Step::scale);
  if (!two || shapes->size() < 2) return;
  const Dims& a = (*shapes)[0];
  const Dims& b = (*shapes)[1];
  const std::int64_t smaller = std::min(elements(a), elements(b));
  const Dims& small = elements(a) < elements(b) ? a : b;
  const bool multiplies = kind.steps != bit(Step::add);
  if (a.empty() || b.empty() || smaller == 1) {
    node.steps = bit(multiplies ? Step::scale : Step::shift);
  } else if (small.size() == 1 && largest->size() > 1 && kind.steps == bit(Step::add) && small[0] == node.width) {
    node.steps = bit(Step::bias);
  } else if (smaller != node.elements || kind.steps == bit(Step::scale)) {
    node.op_class = OpClass::boundary;  // a norm's weight, a mask, a quotient of tensors
  }
}

}  // namespace

std::string_view list_item(std::string_view list, int index) {
  std::size_t at = 0;
  for (int item = 0;; ++item) {
    const std::size_t open = list.find('"', at);
    if (open == std::string_view::npos) return {};
    const std::size_t close = list.find('"', open + 1);
    if (close == std::string_view::npos) return {};
    if (item == index) return list.substr(open + 1, close - open - 1);
    at = close + 1;
  }
}

Number number_of(std::string_view type) {
  if (type == "c10::BFloat16" || type == "bf16") return Number::bf16;
  if (type == "c10::Half" || type == "fp16") return Number::fp16;
  if (type == "float" || type == "fp32") return Number::fp32;
  if (type == "tf32") return Number::tf32;
  return type.empty() ? Number::unknown : Number::other;
}

void read_arguments(const Trace& trace, const OpArgs& args, std::string_view name, const OpKind& kind, Node& node) {
  const Shapes* shapes = args.dims == kNone ? nullptr : &trace.shapes[args.dims];
  const Shapes* strides = args.strides == kNone ? nullptr : &trace.shapes[args.strides];
  const std::string_view concrete = trace.text(args.concrete);
  const std::string_view types = trace.text(args.types);
  switch (kind.op_class) {
    case OpClass::gemm: {
      read_product(shapes, strides, name, kind, node);
      node.number = number_of(list_item(types, kind.a));
      if (name == "aten::_addmm_activation") {
        // aten/src/ATen/native/cuda/Blas.cpp: use_gelu is the tanh form, else ReLU.
        const std::string_view use_gelu = list_item(concrete, 5);
        if (use_gelu == "True") node.steps = bit(Step::tanh) | bit(Step::power) | bit(Step::add);
        if (use_gelu == "False") node.steps = bit(Step::relu);
        node.fused = true;
      }
      break;
    }
    case OpClass::pointwise: read_pointwise(shapes, concrete, kind, node); break;
    case OpClass::top_k:
      if (const Dims* scores = input(shapes, 0)) {
        node.width = width_of(scores->back());
        node.elements = elements(*scores);
        const std::string_view chosen = list_item(concrete, 1);
        std::int32_t top_k = 0;
        if (std::from_chars(chosen.data(), chosen.data() + chosen.size(), top_k).ec == std::errc()) node.k = top_k;
      }
      break;
    default: break;
  }
}

}  // namespace fusedmlp::trace
