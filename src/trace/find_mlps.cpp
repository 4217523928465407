// Plain and gated MLPs of one lane. An activation chain lies between two products; nothing else that computes may.
#include <algorithm>

#include "trace/candidate.h"
#include "trace/chain.h"

namespace fusedmlp::trace {
namespace {

bool known(std::int64_t value) { return value >= 0; }
bool agree(std::int64_t a, std::int64_t b) { return !known(a) || !known(b) || a == b; }

bool same_rows(const Node& a, const Node& b) { return agree(a.m, b.m) && a.batch == b.batch; }
bool same_shape(const Node& a, const Node& b) { return same_rows(a, b) && agree(a.k, b.k) && agree(a.n, b.n); }
bool has_shape(const Node& node) { return known(node.m) && known(node.k) && known(node.n); }

// Rows times width, where the steps between say how many elements they go over.
bool covers(const Run& run, const Node& product, std::int64_t width) {
  if (!known(run.elements) || !known(product.m) || !known(width)) return true;
  const std::int64_t batch = product.batch > 0 && !product.experts ? product.batch : 1;
  return run.elements == product.m * batch * width;
}

class Finder {
 public:
  explicit Finder(std::span<const Node> nodes) : nodes_(nodes) {
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].op_class == OpClass::gemm) products_.push_back(i);
    }
    runs_.reserve(products_.size());
    for (std::size_t i = 0; i < products_.size(); ++i) {
      const std::size_t end = i + 1 < products_.size() ? products_[i + 1] : nodes.size();
      runs_.push_back(make_run(nodes, products_[i] + 1, end, nodes[products_[i]].experts));
      add_epilogue(nodes[products_[i]], runs_.back());
    }
  }

  LaneMatches find() {
    leading_stump();
    for (std::size_t i = 0; i < products_.size();) {
      const std::size_t taken = match_at(i);
      if (taken == 0) note_unmatched(i);
      i += std::max<std::size_t>(taken, 1);
    }
    return std::move(result_);
  }

 private:
  const Node& product(std::size_t i) const { return nodes_[products_[i]]; }
  bool exists(std::size_t i) const { return i < products_.size(); }

  // An activation in the product's own kernel is the first step after it.
  static void add_epilogue(const Node& node, Run& run) {
    if (node.bias) run.bias = true;
    if (node.steps == 0) return;
    run.steps = true;
    run.fused |= node.fused;
    run.half |= node.half;
    for (int s = 0; s < kStepCount; ++s) run.count[s] += static_cast<int>((node.steps >> s) & 1U);
  }

  // How many products the MLP that starts at product i has; 0: none starts there.
  std::size_t match_at(std::size_t i) {
    if (runs_[i].crossed || !exists(i + 1)) return 0;
    if (separate_after_both(i) || separate_between(i)) return 3;
    if (packed(i) || plain(i)) return 2;
    return 0;
  }

  // x sigmoid(x) and sigmoid(x) y are the same steps: with two products' results to join it is the latter.
  static Chain joined(const Run& run, Chain chain) {
    if (chain.product == Product::no && run.of(Step::sigmoid) == 1 && run.of(Step::multiply) == 1 &&
        run.of(Step::scale) == 0) {
      chain.activation = Activation::sigmoid;
      chain.product = Product::yes;
    }
    return chain;
  }

  // gate, up, act(gate) * up, down
  bool separate_after_both(std::size_t i) {
    if (!exists(i + 2)) return false;
    const Node &gate = product(i), &up = product(i + 1), &down = product(i + 2);
    const Run &between = runs_[i], &after = runs_[i + 1];
    if (between.steps && !only_bias(between)) return false;
    if (!same_shape(gate, up) || !agree(down.k, gate.n) || !same_rows(gate, down) || after.half) return false;
    std::optional<Chain> chain = recognise(after);
    if (!chain) return false;
    *chain = joined(after, *chain);
    if (chain->product == Product::no || !covers(after, gate, gate.n)) return false;
    if (after.split && !has_shape(gate)) return false;
    add({.activation = chain->activation,
         .gated = true,
         .gate = products_[i],
         .up = products_[i + 1],
         .down = products_[i + 2],
         .confidence = chain->confidence},
        i, 3);
    return true;
  }

  // gate, act(gate), up, product, down
  bool separate_between(std::size_t i) {
    if (!exists(i + 2)) return false;
    const Node &gate = product(i), &up = product(i + 1), &down = product(i + 2);
    const Run &between = runs_[i], &after = runs_[i + 1];
    if (!same_shape(gate, up) || !agree(down.k, gate.n) || !same_rows(gate, down)) return false;
    if (!only_multiplies(after) || !covers(between, gate, gate.n) || !covers(after, gate, gate.n)) return false;
    const std::optional<Chain> chain = recognise(between);
    if (!chain || chain->product == Product::yes) return false;
    add({.activation = chain->activation,
         .gated = true,
         .gate = products_[i],
         .up = products_[i + 1],
         .down = products_[i + 2],
         .confidence = chain->confidence},
        i, 3);
    return true;
  }

  // gate and up in one product, act(half) * other half, down
  bool packed(std::size_t i) {
    const Node &both = product(i), &down = product(i + 1);
    const Run& between = runs_[i];
    std::optional<Chain> chain = recognise(between);
    if (!chain || !same_rows(both, down)) return false;
    *chain = joined(between, *chain);
    if (chain->product == Product::no) return false;
    if (known(both.n) && known(down.k)) {
      if (both.n != 2 * down.k) return false;
    } else if (!between.half && !between.split) {
      // relu(x) x and sigmoid(x) x are plain MLPs too.
      if (chain->product != Product::yes || between.of(Step::silu) + between.of(Step::gelu) == 0) return false;
      chain->confidence *= 0.8;
    }
    if (!covers(between, both, down.k)) return false;
    add({.activation = chain->activation,
         .gated = true,
         .gate = products_[i],
         .packed = true,
         .down = products_[i + 1],
         .confidence = chain->confidence},
        i, 2);
    return true;
  }

  bool plain(std::size_t i) {
    const Node &up = product(i), &down = product(i + 1);
    const Run& between = runs_[i];
    if (between.half || !same_rows(up, down) || !agree(up.n, down.k) || !covers(between, up, up.n)) return false;
    if (up.batch >= 0 && !up.experts) return false;  // a batched product without a gate is as likely attention
    std::optional<Chain> chain = recognise(between);
    if (!chain) return false;
    if (chain->product == Product::yes) {
      // relu(x) relu(x); without shapes it might as well be a gate.
      if (chain->activation != Activation::relu || !has_shape(up) || !has_shape(down)) return false;
      chain->activation = Activation::relu2;
    }
    // A square gate whose up is there and whose down is cut off.
    if (same_shape(up, down) && has_shape(up) && only_multiplies(runs_[i + 1]) && !exists(i + 2)) return false;
    add({.activation = chain->activation,
         .gate = products_[i],
         .down = products_[i + 1],
         .confidence = chain->confidence},
        i, 2);
    return true;
  }

  static bool only_bias(const Run& run) {
    for (int s = 0; s < kStepCount; ++s) {
      if (s != static_cast<int>(Step::bias) && run.count[s] != 0) return false;
    }
    return true;
  }

  void add(Candidate candidate, std::size_t i, std::size_t count) {
    const Node &gate = nodes_[candidate.gate], &down = nodes_[candidate.down];
    candidate.first = first_node(candidate.gate);
    candidate.last = last_node(candidate.down);
    candidate.tokens = known(gate.m) ? gate.m : down.m;
    candidate.d_in = gate.k;
    candidate.d_hidden = down.k;
    if (!known(down.k) && known(gate.n)) candidate.d_hidden = candidate.packed ? gate.n / 2 : gate.n;
    candidate.d_out = down.n;
    candidate.experts = gate.batch;
    candidate.row_by_row = gate.experts && gate.is_op && gate.batch < 0 && known(gate.m);
    candidate.number = gate.number != Number::unknown ? gate.number : down.number;
    bool any = false, all_known = true;
    for (std::size_t p = i; p < i + count; ++p) {
      const Run& run = runs_[p];
      const bool last = p + 1 == i + count;
      any |= product(p).bias || (!last && run.bias) ||
             (last && candidate.last > candidate.down && adds_row(candidate.last));
      all_known &= product(p).bias_known;
      // Generated code names a bias, a residual and an activation's own sum alike.
      if (!last && run.fused && run.of(Step::add) > 0) all_known = false;
      candidate.confidence *= has_shape(product(p)) ? 1.0 : 0.85;
    }
    if (any || all_known) candidate.bias = any;
    for (std::size_t n = candidate.first; n <= candidate.last; ++n) {
      candidate.confidence = std::min<double>(candidate.confidence, nodes_[n].confidence);
    }
    result_.candidates.push_back(candidate);
  }

  bool adds_row(std::size_t node) const { return nodes_[node].steps == bit(Step::bias); }

  // Casts in the same aten::linear come before its product; in a replay, the copy of a bias.
  std::size_t first_node(std::size_t at) const {
    const std::uint32_t group = nodes_[at].group;
    while (at > 0 && nodes_[at - 1].op_class == OpClass::copy && group != kNone && nodes_[at - 1].group == group)
      --at;
    return at;
  }

  std::size_t last_node(std::size_t at) const {
    while (at + 1 < nodes_.size() && nodes_[at + 1].reduce) ++at;
    if (at + 1 == nodes_.size() || nodes_[at + 1].op_class != OpClass::pointwise) return at;
    const bool gathered =
        nodes_[at].experts && nodes_[at - 1].op_class == OpClass::gather && nodes_[at + 1].steps == bit(Step::add);
    return gathered || adds_row(at + 1) ? at + 1 : at;
  }

  // The trace began in the middle of an MLP: an activation or gate's product, then a product.
  void leading_stump() {
    if (products_.empty()) return;
    const Run run = make_run(nodes_, 0, products_.front());
    if (run.steps && (recognise(run) || only_multiplies(run))) {
      result_.stumps.push_back({.tail = true, .k = product(0).k, .n = product(0).n});
    }
  }

  void note_unmatched(std::size_t i) {
    const Node& first = product(i);
    // The trace ended in the middle of one: nothing follows but its steps, or its second product.
    const std::size_t left = products_.size() - i;
    if (left <= 2 && !runs_[i].crossed && !runs_.back().crossed && (left == 1 || same_shape(first, product(i + 1)))) {
      const Run rest = left == 1 ? runs_[i] : trace::join(runs_[i], runs_[i + 1]);
      if (left == 2 || recognise(rest)) result_.stumps.push_back({.tail = false, .k = first.k, .n = first.n});
    }
    if (first.compiled && i >= hidden_until_ && exists(i + 1) && runs_[i].end == runs_[i].begin) {
      std::size_t down = i + 1;
      if (exists(i + 2) && same_shape(first, product(i + 1)) && runs_[i + 1].end == runs_[i + 1].begin) down = i + 2;
      const Node& last = product(down);
      const bool shaped = has_shape(first) && has_shape(last) && first.m == last.m && first.n == last.k &&
                          first.k == last.n && first.n > first.k;
      if (!shaped) return;
      ++result_.hidden_activations;
      hidden_until_ = down + 1;
    }
  }

  std::span<const Node> nodes_;
  std::vector<std::size_t> products_;
  std::vector<Run> runs_;         // after each product, up to the next
  std::size_t hidden_until_ = 0;  // products already counted as hiding an activation
  LaneMatches result_;
};

}  // namespace

LaneMatches find_mlps(std::span<const Node> nodes) { return Finder(nodes).find(); }

}  // namespace fusedmlp::trace
