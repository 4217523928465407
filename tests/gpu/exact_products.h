// Two products that a test queues itself, on integers that every kernel must get right to the bit.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cuda/common/two_gemms.h"
#include "gpu/device_memory.h"
#include "gpu/resident.h"

namespace fusedmlp::test {

// The MLP by `queue` gives what the CPU's reference gives.
inline void expect_exact_products(const MlpSpec& spec, std::int64_t tokens, const std::string& what,
                                  const std::function<Status(const cuda::TwoGemms&, cudaStream_t)>& queue) {
  const Values values = make_values(spec, tokens, Data::integer, 5);
  const Layout layout{.aligned = true};
  Memory memory;
  const Placed placed = place(spec, values, tokens, layout, memory);
  const std::vector<std::byte> want = run({Isa::generic, "reference", false, {}}, spec, placed, tokens);
  const Resident problem(spec, values, tokens, layout);
  const Stream stream;
  const RunArgs args = problem.args(tokens, stream);
  const DeviceBuffer hidden(static_cast<std::size_t>(tokens * spec.d_hidden) * size_of(spec.dtype));
  problem.poison_y();
  expect_ok(queue(cuda::two_gemms({spec, problem.weights(), nullptr}, args.x, args.ldx, hidden.data(), spec.d_hidden,
                                  args.y, spec.d_out, tokens),
                  stream.handle()));
  EXPECT_EQ(stream.wait(), "");
  EXPECT_EQ(problem.y(tokens), want) << to_string(spec) << ", " << tokens << " tokens: " << what;
}

}  // namespace fusedmlp::test
