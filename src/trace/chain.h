// Recognises the activation, and the gate's product, in the element-wise steps between two matrix products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "fusedmlp/spec.h"
#include "trace/node.h"

namespace fusedmlp::trace {

// What lies between two products of a lane.
struct Run {
  std::size_t begin = 0, end = 0;  // nodes, without the products
  bool crossed = false;            // something that no MLP goes across
  bool split = false;              // a view cut a tensor apart
  bool fused = false;              // generated or packed code: counts are lower bounds
  bool half = false;               // a kernel that reads gate and up from one tensor
  bool vague = false;              // some products may be by a number
  bool bias = false;
  bool steps = false;  // there is at least one step
  int count[kStepCount] = {};
  std::int64_t elements = -1;  // of the pointwise nodes, where they agree and say so; else -1
  bool mixed = false;          // they do not agree

  int of(Step step) const { return count[static_cast<int>(step)]; }
};

// Among experts each row has a bias of its own, gathered and then added.
Run make_run(std::span<const Node> nodes, std::size_t begin, std::size_t end, bool experts = false);
Run join(const Run& first, const Run& second);  // runs around one product, their steps as one

enum class Product : std::uint8_t { no, yes, maybe };

struct Chain {
  Activation activation = Activation::identity;
  Product product = Product::no;  // of gate and up
  double confidence = 1;
};

// Empty: no activation that this library knows.
std::optional<Chain> recognise(const Run& run);

// Nothing but the product of two tensors.
bool only_multiplies(const Run& run);

}  // namespace fusedmlp::trace
