// A whole GeGLU MLP from C++: describe it, point at the weights, run it.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "fusedmlp/fusedmlp.h"

int report(const fusedmlp::Status& status) {
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return 1;
}

int main() {
  using namespace fusedmlp;
  constexpr std::int64_t tokens = 4, width = 768, hidden = 3072;
  const std::vector<std::uint16_t> matrix(hidden * width, 0x3a80);  // 2^-10 in bf16
  const std::vector<std::uint16_t> x(tokens * width, 0x3f80);       // 1.0
  std::vector<std::uint16_t> y(tokens * width);

  const MlpSpec spec = parse_spec("geglu:768x3072,bf16").value();
  MlpWeights weights;
  weights.gate = MatrixView::out_in(matrix.data(), hidden, width);
  weights.up = MatrixView::out_in(matrix.data(), hidden, width);
  weights.down = MatrixView::out_in(matrix.data(), width, hidden);
  Result<Plan> plan = Plan::create(spec, weights, Device::cpu());  // packs once; errors name the argument
  if (!plan) return report(plan.status());
  const Status ran = plan->run(x.data(), y.data(), tokens);  // any token count; thread-safe
  if (!ran) return report(ran);
  std::puts(plan->explain(tokens).c_str());  // which kernel, its predicted time, why not the others

  // gelu(0.75) * 0.75 * 3 = 1.3050, in bf16 within one rounding of 0x3fa7.
  std::printf("fusedmlp %s: y[0] = 0x%04x\n", version(), static_cast<unsigned>(y[0]));
  return y[0] >= 0x3fa5 && y[0] <= 0x3fa9 ? 0 : 1;
}
