#include "trace/instances.h"

#include <algorithm>

namespace fusedmlp::trace {
namespace {

std::optional<std::int64_t> optional(std::int64_t value) { return value >= 0 ? std::optional(value) : std::nullopt; }

std::optional<std::string> text(Number number) {
  switch (number) {
    case Number::bf16: return "bf16";
    case Number::fp16: return "fp16";
    case Number::fp32: return "fp32";
    case Number::tf32: return "tf32";
    case Number::unknown:
    case Number::other: return std::nullopt;
  }
  return std::nullopt;
}

bool is_product(Role role) {
  return role == Role::gate || role == Role::up || role == Role::gate_up || role == Role::down;
}

// Of a node that is none of the products.
Role role_between(const Node& node, const Candidate& candidate) {
  if (node.reduce) return Role::reduce;
  if (node.op_class == OpClass::copy) return Role::cast;
  if (node.op_class == OpClass::gather) return Role::routing;
  if (node.op_class != OpClass::pointwise) return Role::other;
  const bool expert_bias = candidate.experts >= 0 && node.steps == bit(Step::add);
  if (node.steps == bit(Step::bias) || expert_bias) return Role::bias;
  return candidate.gated && node.steps == bit(Step::multiply) ? Role::multiply : Role::activation;
}

}  // namespace

Instance Instances::describe(const Candidate& candidate) const {
  Instance instance;
  instance.kind = form_name(candidate.activation, candidate.gated);
  instance.gated = candidate.gated;
  instance.tokens = optional(candidate.tokens);
  instance.d_in = optional(candidate.d_in);
  instance.d_hidden = optional(candidate.d_hidden);
  instance.d_out = optional(candidate.d_out);
  instance.experts = optional(candidate.experts);
  instance.top_k = optional(candidate.top_k);
  instance.dtype = text(candidate.number);
  instance.bias = candidate.bias;
  instance.confidence = candidate.confidence;
  return instance;
}

bool Instances::collect(const Lane& lane, const Candidate& candidate, std::vector<Part>& parts) {
  bool whole = true;
  for (std::size_t i = candidate.first; i <= candidate.last; ++i) {
    const Node& node = lane.nodes[i];
    Role role = Role::other;
    if (i == candidate.down) {
      role = Role::down;
    } else if (i == candidate.gate) {
      role = candidate.packed ? Role::gate_up : candidate.gated ? Role::gate : Role::up;
    } else if (i == candidate.up) {
      role = Role::up;
    } else {
      role = role_between(node, candidate);
    }
    if (is_product(role) && !node.works) whole = false;
    add_node(node, role, parts);
  }
  return whole;
}

void Instances::add_node(const Node& node, Role role, std::vector<Part>& parts) {
  if (nodes_.cpu_only) {
    if (node.works) parts.push_back({node.event, role});
    return;
  }
  const std::size_t before = parts.size();
  bool found = false;
  for (const std::uint32_t event : nodes_.of(node)) {
    const Category category = trace_.events[event].category;
    Role part = role;
    if (category == Category::memset) {
      part = Role::other;  // clears a split-K workspace or a semaphore
    } else if (category == Category::memcpy) {
      part = is_product(role) ? Role::bias : role;  // addmm copies its bias out before the product adds to it
    } else if (is_product(role)) {
      const KernelKind& kind = kernel(trace_.events[event].name);
      const bool works = kind.kind.op_class == OpClass::gemm || kind.kind.op_class == OpClass::whole;
      found |= works;
      if (kind.reduce)
        part = Role::reduce;
      else if (kind.kind.op_class == OpClass::copy)
        part = Role::cast;
      else if (!works && kind.decoded.work != Work::unknown)
        part = Role::bias;
    }
    parts.push_back({event, part});
  }
  // No kernel has a name that is known to be a product: the longest is.
  if (!is_product(role) || found) return;
  std::size_t longest = parts.size();
  for (std::size_t i = before; i < parts.size(); ++i) {
    if (trace_.events[parts[i].event].category != Category::kernel) continue;
    if (longest == parts.size() ||
        trace_.events[parts[i].event].duration > trace_.events[parts[longest].event].duration) {
      longest = i;
    }
  }
  if (longest < parts.size()) parts[longest].role = role;
}

const KernelKind& Instances::kernel(std::uint32_t name) {
  const auto [at, fresh] = kernels_.try_emplace(name);
  if (fresh) at->second = kernel_kind(trace_.text(name));
  return at->second;
}

void Instances::refine_number(Instance& instance) {
  if (nodes_.cpu_only || (instance.dtype && instance.dtype != "fp32")) return;
  for (const Part& part : instance.parts) {
    if (!is_product(part.role)) continue;
    const auto& dtype = kernel(trace_.events[part.event].name).decoded.dtype;
    if (!dtype) continue;
    if (*dtype == "tf32" || !instance.dtype) {
      const std::optional<std::string> known = text(*dtype == "tf32"   ? Number::tf32
                                                    : *dtype == "bf16" ? Number::bf16
                                                    : *dtype == "fp16" ? Number::fp16
                                                    : *dtype == "fp32" ? Number::fp32
                                                                       : Number::other);
      if (known) instance.dtype = known;
    }
    return;
  }
}

void Instances::sort(std::vector<Part>& parts) const {
  std::stable_sort(parts.begin(), parts.end(), [&](const Part& a, const Part& b) {
    return trace_.events[a.event].start < trace_.events[b.event].start;
  });
}

}  // namespace fusedmlp::trace
