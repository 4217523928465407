// The packed copy as a uint8 tensor: a header that tells which weights it was made from, then the payload of
// fusedmlp::pack(). The header is what makes a stale copy harmless: every use compares it with the weights
// that came along.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensors.h"

namespace fusedmlp::pytorch {

struct alignas(64) PackedHeader {
  std::uint64_t magic;
  std::uint32_t format;
  std::uint32_t isa;
  std::uint64_t process;  // random, one for each process: addresses mean nothing in another
  const void* self;       // where this header lies: a copy of the tensor is not the tensor
  std::uint64_t spec_hash;
  std::uint64_t payload_offset;
  std::uint64_t payload_bytes;
  std::uint64_t stale;  // set once a use found the copy to be out of date, for its owner to see
  Fingerprint tensors[kOperandTensors];
};

static_assert(sizeof(PackedHeader) % 64 == 0, "the payload stays aligned");
static_assert(offsetof(PackedHeader, stale) == 56, "modules.py reads it there");

// A new packed tensor for these weights.
Tensor make_packed(const Operands& operands, const Problem& problem);

// The payload, or null when `packed` was made from other weights (it is then marked stale) or is no packed
// tensor of this process.
const void* fresh_payload(const TensorInfo& packed, const Operands& operands, const Problem& problem);

// The class of instructions that copies are packed for now; FUSEDMLP_ISA may change it. Throws for a word it does not
// know.
std::uint32_t current_isa();

// Tells the owner of a packed tensor that its weights have changed.
void mark_stale(const Tensor& packed);

}  // namespace fusedmlp::pytorch
