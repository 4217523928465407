#include "trace/experts.h"

#include <algorithm>

namespace fusedmlp::trace {
namespace {

// The router's choice: topk over scores [tokens, experts].
struct Router {
  std::int64_t tokens = -1, experts = -1, top_k = -1;
};

bool same_weights(const Candidate& a, const Candidate& b) {
  return a.activation == b.activation && a.gated == b.gated && a.packed == b.packed && a.d_in == b.d_in &&
         a.d_hidden == b.d_hidden && a.d_out == b.d_out && a.number == b.number;
}

// The last work before it picks the rows of one expert.
bool gathers(std::span<const Node> nodes, std::size_t begin, std::size_t end) {
  for (; end > begin; --end) {
    const OpClass op_class = nodes[end - 1].op_class;
    if (op_class == OpClass::gather) return true;
    if (op_class != OpClass::copy && op_class != OpClass::split) return false;
  }
  return false;
}

// All experts in one product: rows are tokens times top_k, or every expert sees every token.
void describe_grouped(const Router& router, Candidate& candidate) {
  const std::int64_t rows = candidate.tokens;
  if (router.tokens <= 0 || rows < router.tokens || rows % router.tokens != 0) return;
  if (candidate.row_by_row) candidate.experts = router.experts;
  candidate.tokens = router.tokens;
  candidate.top_k = rows > router.tokens ? rows / router.tokens : router.top_k;
  if (router.top_k < 0 && rows == router.tokens) candidate.top_k = 1;
}

// Experts one by one, each over its own rows.
void describe_looped(const Router& router, ExpertGroup& group) {
  Candidate& whole = group.candidate;
  std::int64_t rows = 0;
  for (const Candidate& member : group.members) {
    rows = member.tokens < 0 || rows < 0 ? -1 : rows + member.tokens;
    whole.confidence = std::min(whole.confidence, member.confidence);
  }
  whole.experts = router.experts;
  whole.tokens = router.tokens;
  whole.top_k = router.top_k;
  if (whole.top_k < 0 && router.tokens > 0 && rows > 0 && rows % router.tokens == 0) {
    whole.top_k = rows / router.tokens;
  }
  whole.last = group.members.back().last;
}

}  // namespace

std::vector<ExpertGroup> group_experts(std::span<const Node> nodes, std::span<const Candidate> candidates) {
  std::vector<ExpertGroup> groups;
  Router router;
  bool fresh = false;  // the router's experts have not come yet
  bool looped = false;
  std::size_t at = 0;
  const auto close = [&] {
    if (looped) describe_looped(router, groups.back());
    looped = false;
  };
  for (const Candidate& candidate : candidates) {
    const std::size_t before = at;
    for (; at < candidate.first; ++at) {
      const Node& node = nodes[at];
      if (node.op_class != OpClass::top_k || node.width <= 0 || node.elements < 0) continue;
      close();
      router = {.tokens = node.elements / node.width, .experts = node.width, .top_k = node.k};
      fresh = true;
    }
    at = candidate.last + 1;
    const bool grouped = candidate.experts >= 0 || candidate.row_by_row;
    const bool gathered = !grouped && gathers(nodes, before, candidate.first);
    if (looped && gathered && same_weights(groups.back().candidate, candidate)) {
      groups.back().members.push_back(candidate);
      continue;
    }
    close();
    groups.push_back({candidate, {candidate}});
    if (grouped) {
      Candidate& whole = groups.back().candidate;
      if (fresh && router.experts >= candidate.experts) {
        describe_grouped(router, whole);
      } else {
        whole.tokens = -1;  // rows are known, what of them are the same token's is not
      }
      fresh = false;
    } else if (fresh && gathered && candidate.tokens <= router.tokens) {
      looped = true;
      fresh = false;
    }
  }
  close();
  return groups;
}

}  // namespace fusedmlp::trace
