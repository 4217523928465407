// Plans that are remembered: one search for each question, and no answer to another one.
#include "cuda/common/remembered.h"

#include <gtest/gtest.h>

#include <string>

#include "core/format.h"

namespace fusedmlp::cuda {
namespace {

int searches = 0;

std::string choose(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, bool along_k) {
  ++searches;
  return core::format("{} {} {} {} {}", to_string(spec), tokens, device.cores, device.compute_capability,
                      along_k ? 1 : 0);
}

TEST(Remembered, EachQuestionIsSearchedForOnce) {
  const MlpSpec spec{.d_in = 768, .d_hidden = 3072, .d_out = 768, .gated = true, .dtype = DType::bf16};
  DeviceInfo device;
  device.device = Device::cuda();
  device.cores = 132;
  device.compute_capability = 90;
  const auto ask = [&](std::int64_t tokens, bool along_k) {
    return remembered<choose>(spec, tokens, device, along_k);
  };
  const auto expect_new = [&](const auto& question) {
    const int before = searches;
    const std::string first = question();
    EXPECT_EQ(searches, before + 1);
    EXPECT_EQ(question(), first);
    EXPECT_EQ(searches, before + 1) << first;
    return first;
  };
  const std::string plan = expect_new([&] { return ask(64, true); });
  EXPECT_NE(expect_new([&] { return ask(64, false); }), plan);
  EXPECT_NE(expect_new([&] { return ask(65, true); }), plan);
  device.compute_capability = 80;
  EXPECT_NE(expect_new([&] { return ask(64, true); }), plan);
  device.compute_capability = 90;
  device.cores = 16;
  EXPECT_NE(expect_new([&] { return ask(64, true); }), plan);
  device.cores = 132;
  EXPECT_EQ(expect_new([&] { return ask(64, true); }), plan);
  for (const DType dtype : {DType::f32, DType::f16}) {
    MlpSpec other = spec;
    other.dtype = dtype;
    EXPECT_NE(expect_new([&] { return remembered<choose>(other, 64, device, true); }), plan);
  }
}

}  // namespace
}  // namespace fusedmlp::cuda
