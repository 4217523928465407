// An MLP resolved once, for calls that name it by a number: reading and checking the weights' tensors costs more than
// the arithmetic of a small layer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "tensors.h"

namespace fusedmlp::pytorch {

// Owns references to the weights and to their packed copy.
struct Prepared {
  Prepared(const Tensor& packed, const Operands& operands);

  // The weights as they are now: `problem` stays valid while no tensor of theirs was given other memory (`.data = `,
  // resize_), and `payload` while FUSEDMLP_ISA is what it was, which `moved` finds. Writes into the memory are for
  // the caller to notice.
  bool moved() const;
  Operands operands() const;

  std::optional<Tensor> w_gate;
  Tensor w_up;
  Tensor w_down;
  std::optional<Tensor> b_gate;
  std::optional<Tensor> b_up;
  std::optional<Tensor> b_down;
  std::int64_t activation;
  std::int64_t gate_order;
  double alpha;
  double limit;
  Tensor packed;
  Problem problem;
  const void* payload;

 private:
  std::uint32_t isa_ = 0;
  Fingerprint made_of_[kOperandTensors];
};

// A number for `prepared`, until release().
std::int64_t keep(std::shared_ptr<const Prepared> prepared);
// Throws for a number that names none.
std::shared_ptr<const Prepared> find(std::int64_t handle);
void release(std::int64_t handle);

}  // namespace fusedmlp::pytorch
