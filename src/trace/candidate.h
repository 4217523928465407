// An MLP found in a lane: which nodes play which part. Candidates become instances once their events are collected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fusedmlp/spec.h"
#include "trace/match.h"
#include "trace/node.h"

namespace fusedmlp::trace {

struct Candidate {
  Activation activation = Activation::identity;
  bool gated = false;
  std::size_t first = 0, last = 0;  // nodes of the lane, both inclusive, everything between belongs
  std::size_t gate = 0;             // the product whose result is activated; plain: the only one before down
  std::optional<std::size_t> up = std::nullopt;  // of a separate pair
  bool packed = false;                           // gate and up are one product
  std::size_t down = 0;
  std::int64_t tokens = -1, d_in = -1, d_hidden = -1, d_out = -1;
  std::int64_t experts = -1, top_k = -1;
  bool row_by_row = false;  // of experts: each row has weights of its own
  std::optional<bool> bias = std::nullopt;
  Number number = Number::unknown;
  double confidence = 1;
};

// The parts of an MLP whose first product and activation are there and whose last is not, or the other way round.
struct Stump {
  bool tail = false;            // the end of an MLP; else its beginning
  std::int64_t k = -1, n = -1;  // of the product that is there
};

struct LaneMatches {
  std::vector<Candidate> candidates;  // in order
  std::vector<Stump> stumps;
  std::int64_t hidden_activations = 0;  // products of compiled CPU code shaped like an MLP
};

// Products with an activation between them, by order and shapes.
LaneMatches find_mlps(std::span<const Node> nodes);

}  // namespace fusedmlp::trace
