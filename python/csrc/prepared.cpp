#include "prepared.h"

#include <mutex>
#include <unordered_map>
#include <utility>

#include "packed_tensor.h"

namespace fusedmlp::pytorch {
namespace {

struct Table {
  std::mutex mutex;
  std::int64_t next = 1;
  std::unordered_map<std::int64_t, std::shared_ptr<const Prepared>> entries;
};

// Never destroyed: Python may release its last modules after static destructors ran.
Table& table() {
  static Table& the = *new Table;
  return the;
}

}  // namespace

Prepared::Prepared(const Tensor& copy, const Operands& o)
    : w_gate(o.w_gate),
      w_up(o.w_up),
      w_down(o.w_down),
      b_gate(o.b_gate),
      b_up(o.b_up),
      b_down(o.b_down),
      activation(o.activation),
      gate_order(o.gate_order),
      alpha(o.alpha),
      limit(o.limit),
      packed(copy),
      problem(read_operands(operands())),
      payload(fresh_payload(inspect(packed), operands(), problem)),
      isa_(current_isa()) {
  if (payload == nullptr) fail("packed", "was not made from these weights as they are");
  for (int slot = 0; slot < kOperandTensors; ++slot) made_of_[slot] = fingerprint(problem.tensors[slot]);
}

Operands Prepared::operands() const {
  return {w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit};
}

bool Prepared::moved() const {
  if (isa_ != current_isa()) return true;
  const Operands now = operands();
  for (int slot = 0; slot < kOperandTensors; ++slot) {
    const Tensor* tensor = operand(now, slot);
    if (tensor != nullptr && !same_memory(made_of_[slot], *tensor)) return true;
  }
  return false;
}

std::int64_t keep(std::shared_ptr<const Prepared> prepared) {
  Table& t = table();
  const std::lock_guard lock(t.mutex);
  const std::int64_t handle = t.next++;
  t.entries.emplace(handle, std::move(prepared));
  return handle;
}

std::shared_ptr<const Prepared> find(std::int64_t handle) {
  Table& t = table();
  {
    const std::lock_guard lock(t.mutex);
    const auto entry = t.entries.find(handle);
    if (entry != t.entries.end()) return entry->second;
  }
  fail("handle", "names no prepared MLP: got " + std::to_string(handle));
}

void release(std::int64_t handle) {
  Table& t = table();
  std::shared_ptr<const Prepared> last;  // destroyed after the lock is given back
  const std::lock_guard lock(t.mutex);
  const auto entry = t.entries.find(handle);
  if (entry == t.entries.end()) return;
  last = std::move(entry->second);
  t.entries.erase(entry);
}

}  // namespace fusedmlp::pytorch
