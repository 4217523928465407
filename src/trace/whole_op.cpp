#include "trace/whole_op.h"

#include <charconv>

#include "trace/node_shapes.h"

namespace fusedmlp::trace {
namespace {

using Dims = std::vector<std::int64_t>;

const Dims& dims(const Shapes& shapes, std::size_t index) {
  static const Dims kNoDims;
  return index < shapes.size() ? shapes[index] : kNoDims;
}

std::int64_t rows(const Dims& x) {
  std::int64_t product = 1;
  for (std::size_t i = 0; i + 1 < x.size(); ++i) product *= x[i];
  return product;
}

std::int64_t integer(std::string_view concrete, int index) {
  const std::string_view text = list_item(concrete, index);
  std::int64_t value = -1;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// mlp(x, w_gate?, w_up, w_down, b_gate?, b_up?, b_down?, activation, gate_order, alpha, limit), see
// python/csrc/ops.cpp; mlp_packed has the packed weights after x. A gate_order of 2 or more holds gate and up in
// w_up.
std::optional<Candidate> own_op(const Shapes& shapes, std::string_view concrete, std::string_view types,
                                bool packed) {
  const std::size_t shift = packed ? 1 : 0;
  const int first_option = static_cast<int>(7 + shift);
  const Dims &x = dims(shapes, 0), &w_up = dims(shapes, 2 + shift), &w_down = dims(shapes, 3 + shift);
  const std::int64_t activation = integer(concrete, first_option);
  const std::int64_t order = integer(concrete, first_option + 1);
  if (x.empty() || w_up.size() != 2 || w_down.size() != 2 || activation < 0 || activation >= kActivationCount)
    return {};
  Candidate candidate;
  candidate.activation = static_cast<Activation>(activation);
  candidate.packed = order >= 2;
  candidate.gated = candidate.packed || !dims(shapes, 1 + shift).empty();
  candidate.tokens = rows(x);
  candidate.d_in = x.back();
  candidate.d_hidden = w_down[1];
  candidate.d_out = w_down[0];
  candidate.bias = false;
  for (std::size_t i = 4; i < 7; ++i) *candidate.bias |= !dims(shapes, i + shift).empty();
  candidate.number = number_of(list_item(types, 0));
  return candidate;
}

// fused_experts(hidden_states [T, H], w1 [E, 2I, H], w2 [E, H, I], topk_weights [T, K], topk_ids [T, K], ...), see
// vllm/model_executor/layers/fused_moe/fused_moe.py. Its activation is a text, which profiles do not record; the
// kernel between the products names it.
std::optional<Candidate> experts_op(const Shapes& shapes, std::string_view types) {
  const Dims &x = dims(shapes, 0), &w1 = dims(shapes, 1), &w2 = dims(shapes, 2), &weights = dims(shapes, 3);
  if (x.size() != 2 || w1.size() != 3 || w2.size() != 3 || weights.size() != 2) return {};
  Candidate candidate;
  candidate.packed = w1[1] == 2 * w2[2];
  candidate.gated = candidate.packed;
  candidate.tokens = x[0];
  candidate.d_in = x[1];
  candidate.d_hidden = w2[2];
  candidate.d_out = w2[1];
  candidate.experts = w1[0];
  candidate.top_k = weights[1];
  candidate.bias = false;
  candidate.number = number_of(list_item(types, 0));
  return candidate;
}

// From the kernels, products in order around the one that activates.
bool read_kernels(const Trace& trace, const Nodes& nodes, const Node& node, Instances& instances,
                  Instance& instance) {
  bool activated = false;
  std::optional<Activation> activation;
  for (const std::uint32_t event : nodes.of(node)) {
    if (trace.events[event].category != Category::kernel) {
      instance.parts.push_back({event, Role::other});
      continue;
    }
    const KernelKind& kernel = instances.kernel(trace.events[event].name);
    Role role = Role::routing;
    if (kernel.decoded.activation) {
      if (const Result<Activation> parsed = parse_activation(*kernel.decoded.activation)) activation = *parsed;
      role = kernel.kind.op_class == OpClass::gemm ? Role::gate_up : Role::activation;
      activated = true;
    } else if (kernel.kind.op_class == OpClass::gemm) {
      role = activated ? Role::down : Role::gate_up;
    }
    instance.parts.push_back({event, role});
  }
  if (!activation) return false;
  instance.kind = form_name(*activation, instance.gated);
  return true;
}

}  // namespace

std::optional<Instance> whole_op(const Trace& trace, const Nodes& nodes, const Node& node, Instances& instances) {
  if (!node.works) return std::nullopt;
  const Event& event = trace.events[node.event];
  const std::string_view name = trace.text(event.name);
  if (!node.is_op) {  // this library's kernel without its op: only what its name says
    const KernelName& decoded = instances.kernel(event.name).decoded;
    if (!decoded.activation) return std::nullopt;
    const Result<Activation> activation = parse_activation(*decoded.activation);
    if (!activation) return std::nullopt;
    Candidate candidate{.activation = *activation, .gated = decoded.multiplies, .confidence = 0.5};
    candidate.number = node.number;
    Instance instance = instances.describe(candidate);
    instances.add_node(node, Role::other, instance.parts);
    return instance;
  }
  if (event.args == kNone) return std::nullopt;
  const OpArgs& args = trace.op_args[event.args];
  if (args.dims == kNone) return std::nullopt;
  const Shapes& shapes = trace.shapes[args.dims];
  const std::string_view types = trace.text(args.types);
  const bool own = name.rfind("fusedmlp::", 0) == 0;
  const std::optional<Candidate> candidate =
      own ? own_op(shapes, trace.text(args.concrete), types, name == "fusedmlp::mlp_packed")
          : experts_op(shapes, types);
  if (!candidate) return std::nullopt;
  Instance instance = instances.describe(*candidate);
  instance.confidence = node.confidence;
  if (own) {
    instances.add_node(node, Role::other, instance.parts);
  } else if (nodes.cpu_only || !read_kernels(trace, nodes, node, instances, instance)) {
    return std::nullopt;
  }
  return instance;
}

}  // namespace fusedmlp::trace
