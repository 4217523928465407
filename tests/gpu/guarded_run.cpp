#include "gpu/guarded_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "core/kernel.h"
#include "gpu/device_memory.h"
#include "gpu/image.h"

namespace fusedmlp::test {
std::vector<std::string> gpu_kernels(const MlpSpec& spec, std::int64_t tokens) {
  std::vector<std::string> names;
  const Result<DeviceInfo> device = describe(Device::cuda());
  if (!device) return names;
  for (const core::KernelEntry& entry : core::kernels(DeviceType::cuda)) {
    if (entry.unsupported({spec, tokens, *device, 1, false}).empty()) names.push_back(entry.name);
  }
  return names;
}

std::vector<std::byte> guarded_run(Device device, const MlpSpec& spec, const MlpWeights& given, const void* x,
                                   std::int64_t ldx, std::int64_t tokens) {
  const std::size_t size = size_of(spec.dtype);
  const std::int64_t unit = std::min<std::int64_t>(ldx & -ldx, 8);  // rows of y are as aligned as those of x
  const std::int64_t ldy = (ldx - spec.d_in + spec.d_out + unit - 1) / unit * unit;
  std::vector<std::byte> y(static_cast<std::size_t>(tokens * spec.d_out) * size, std::byte{0xff});
  const std::size_t x_bytes = static_cast<std::size_t>((tokens - 1) * ldx + spec.d_in) * size;
  const std::size_t y_bytes = static_cast<std::size_t>((tokens - 1) * ldy + spec.d_out) * size;

  Image image;
  MlpWeights weights = given;
  image.place(weights, spec.dtype);
  const std::size_t x_at = image.place(x, x_bytes, x);
  const std::size_t y_at = image.place(nullptr, y_bytes, x);
  // What a plan of these weights asks for does not depend on where they are.
  const Result<Plan> sizing = Plan::create(spec, given, device);
  EXPECT_TRUE(sizing.ok()) << sizing.status().to_string();
  if (!sizing) return y;
  const std::size_t workspace_bytes = sizing->workspace_bytes(tokens);
  const std::size_t workspace_at = image.place(nullptr, workspace_bytes, nullptr);

  static DeviceBuffer slab;  // grows; one test runs at a time
  if (slab.size() < image.bytes().size()) slab = DeviceBuffer(image.bytes().size());
  std::byte* base = static_cast<std::byte*>(slab.data());
  slab.upload(image.bytes());
  image.bind(base);

  const Result<Plan> plan = Plan::create(spec, weights, device);
  EXPECT_TRUE(plan.ok()) << plan.status().to_string();
  if (!plan) return y;
  const Stream stream;
  RunArgs args;
  args.x = base + x_at;
  args.ldx = ldx;
  args.y = base + y_at;
  args.ldy = ldy;
  args.tokens = tokens;
  args.stream = stream.handle();
  args.workspace = base + workspace_at;
  args.workspace_bytes = workspace_bytes;
  const Status status = plan->run(args);
  EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(stream.wait(), "");

  std::vector<std::byte> after = slab.download(image.bytes().size());
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::byte* row = after.data() + y_at + static_cast<std::size_t>(t * ldy) * size;
    const std::size_t bytes = static_cast<std::size_t>(spec.d_out) * size;
    std::memcpy(y.data() + static_cast<std::size_t>(t) * bytes, row, bytes);
    std::fill(row, row + bytes, std::byte{0xff});
  }
  std::fill_n(after.begin() + static_cast<std::ptrdiff_t>(workspace_at), workspace_bytes, std::byte{0xff});
  const auto differing = std::mismatch(after.begin(), after.end(), image.bytes().begin());
  EXPECT_TRUE(differing.first == after.end())
      << "byte " << differing.first - after.begin() << " was written; x is at " << x_at << ", y at " << y_at
      << ", the workspace at " << workspace_at;
  return y;
}

}  // namespace fusedmlp::test
