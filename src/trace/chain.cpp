#include "trace/chain.h"

namespace fusedmlp::trace {
namespace {

void take(const Node& node, Run& run) {
  if (node.op_class == OpClass::split) run.split = true;
  if (node.op_class == OpClass::copy || node.op_class == OpClass::split) return;
  if (node.op_class != OpClass::pointwise) {
    run.crossed = true;
    return;
  }
  run.steps = true;
  run.fused |= node.fused;
  run.half |= node.half;
  if (node.bias) run.bias = true;
  for (int i = 0; i < kStepCount; ++i) run.count[i] += static_cast<int>((node.steps >> i) & 1U);
  run.vague |= node.vague;
  if (node.elements < 0 || node.half || node.fused || node.steps == bit(Step::bias)) return;
  if (run.elements >= 0 && run.elements != node.elements) run.mixed = true;
  run.elements = node.elements;
}

}  // namespace

Run make_run(std::span<const Node> nodes, std::size_t begin, std::size_t end, bool experts) {
  Run run{.begin = begin, .end = end};
  for (std::size_t i = begin; i < end && !run.crossed; ++i) {
    const Node& node = nodes[i];
    if (experts && node.op_class == OpClass::gather) continue;
    if (experts && !run.steps && node.op_class == OpClass::pointwise && node.steps == bit(Step::add)) {
      run.bias = true;
      continue;
    }
    take(node, run);
  }
  if (run.of(Step::bias) > 0) run.bias = true;
  return run;
}

Run join(const Run& first, const Run& second) {
  Run run = first;
  run.end = second.end;
  run.crossed |= second.crossed;
  run.split |= second.split;
  run.fused |= second.fused;
  run.half |= second.half;
  run.vague |= second.vague;
  run.bias |= second.bias;
  run.steps |= second.steps;
  for (int i = 0; i < kStepCount; ++i) run.count[i] += second.count[i];
  if (run.elements < 0) {
    run.elements = second.elements;
  } else if (second.elements >= 0 && second.elements != run.elements) {
    run.mixed = true;
  }
  run.mixed |= second.mixed;
  return run;
}

bool only_multiplies(const Run& run) {
  if (run.crossed || run.mixed || run.of(Step::multiply) != 1) return false;
  for (int i = 0; i < kStepCount; ++i) {
    if (i != static_cast<int>(Step::multiply) && i != static_cast<int>(Step::bias) && run.count[i] != 0) return false;
  }
  return true;
}

std::optional<Chain> recognise(const Run& run) {
  if (run.crossed || run.mixed || !run.steps) return std::nullopt;
  // A product or sum of unknown operands may be one by a number, and a power a square.
  const int gelu = run.of(Step::gelu), silu = run.of(Step::silu), relu = run.of(Step::relu);
  const int sigmoid = run.of(Step::sigmoid), tanh = run.of(Step::tanh), erf = run.of(Step::erf);
  const int multiply = run.of(Step::multiply), scale = run.of(Step::scale), clamp = run.of(Step::clamp);
  const int add = run.of(Step::add), shift = run.of(Step::shift), glu = run.of(Step::glu);
  const int squares = run.of(Step::square) + run.of(Step::power);
  if (gelu + silu + relu + sigmoid + tanh + erf + glu != 1) return std::nullopt;

  // Products that belong to the activation itself; one more is the gate's. Generated code names an op once however
  // often it does it, and adds a bias or a residual under the same name.
  const auto with_products = [&](Activation activation, int own, double confidence) -> std::optional<Chain> {
    Chain chain{.activation = activation, .confidence = confidence};
    if (run.half) {
      chain.product = Product::yes;
    } else if (run.vague && own > 0) {
      chain.product = Product::maybe;
      chain.confidence *= 0.8;
    } else if (run.fused && own > 0) {
      chain.product = multiply > own ? Product::yes : Product::maybe;
    } else if (multiply == own + 1) {
      chain.product = Product::yes;
    } else if (multiply != own) {
      return std::nullopt;
    }
    return chain;
  };

  if (glu == 1) {
    if (multiply + scale + add + shift + clamp + squares != 0) return std::nullopt;
    return Chain{.activation = Activation::sigmoid, .product = Product::yes};
  }
  if (gelu + silu == 1) {
    if (clamp + squares + shift != 0 || (add != 0 && !run.fused)) return std::nullopt;
    // Models with constant multipliers (FalconH1) scale before or after.
    return with_products(gelu == 1 ? Activation::gelu : Activation::silu, 0, scale == 0 ? 1.0 : 0.8);
  }
  if (relu == 1) {
    if (clamp + shift + scale != 0 || (add != 0 && !run.fused) || squares > 1) return std::nullopt;
    if (squares == 1) return with_products(Activation::relu2, 0, run.of(Step::square) == 1 ? 1.0 : 0.9);
    return with_products(Activation::relu, 0, 1.0);
  }
  if (erf == 1) {  // x/2 (1 + erf(x / sqrt 2))
    if (clamp + squares != 0 || scale + multiply == 0) return std::nullopt;
    return with_products(Activation::gelu, 1, 0.95);
  }
  if (tanh == 1) {
    // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): transformers' gelu_new has a power and one product, gelu_fast
    // and Bloom's x * (1 + 0.044715 x x) three.
    if (clamp != 0 || squares > 1) return std::nullopt;
    if (squares == 0 && (multiply < 3 || (shift < 1 && !run.vague))) {
      if (!run.fused || multiply == 0 || add == 0) return std::nullopt;
    }
    return with_products(Activation::gelu_tanh, squares == 1 ? 1 : 3, run.fused ? 0.9 : 1.0);
  }
  // sigmoid
  if (clamp > 0) {  // GPT-OSS: g sigmoid(alpha g) (u + 1), both clamped
    if (squares != 0 || add + shift == 0 || multiply + scale == 0) return std::nullopt;
    return Chain{.activation = Activation::swiglu_oai, .product = Product::yes, .confidence = run.fused ? 0.9 : 1.0};
  }
  if (squares + shift != 0 || (add != 0 && !run.fused)) return std::nullopt;
  if (run.vague && multiply == 2) return with_products(Activation::quick_gelu, 1, 0.9);
  if (scale == 1 && multiply >= 1) return with_products(Activation::quick_gelu, 1, 1.0);
  if (scale != 0) return std::nullopt;
  if (run.fused && multiply > 0) return with_products(Activation::quick_gelu, 1, 0.6);  // or silu: names do not tell
  // sigmoid alone, with its gate, or x sigmoid(x): how many products there are, and widths, tell.
  if (multiply == 0) return Chain{.activation = Activation::sigmoid, .product = Product::no};
  return with_products(Activation::silu, 1, 0.95);
}

}  // namespace fusedmlp::trace
