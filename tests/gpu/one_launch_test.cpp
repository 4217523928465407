// Both products of cuda.sm90 in one launch: where it is taken, and its kernels on integers, in graphs and on streams.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "cuda/common/tile_slot.h"
#include "cuda/sm90/tiles.h"
#include "gpu/cards.h"
#include "gpu/exact_products.h"
#include "gpu/green_context.h"

namespace fusedmlp::test {
namespace {

using namespace cuda::sm90;

bool pays(const char* text, std::int64_t tokens) {
  const MlpSpec spec = spec_of(text);
  const DeviceInfo device = h200();
  const Product hidden{tokens, spec.d_hidden, spec.d_in, spec.gated, true, spec.dtype};
  const Product out{tokens, spec.d_out, spec.d_hidden, false, false, spec.dtype};
  return one_launch_pays(hidden, choose(hidden, device), out, choose(out, device), device);
}

TEST(OneLaunch, IsTakenWhereItWasMeasuredToPay) {
  EXPECT_TRUE(pays("gelu:4096x4096+bias,bf16", 1024));
  EXPECT_TRUE(pays("gelu:2048x2048+bias,bf16", 2048));
  EXPECT_TRUE(pays("gelu:1024x4096+bias,bf16", 8192));
  EXPECT_TRUE(pays("geglu:768x3072,bf16", 960));
  EXPECT_FALSE(pays("gelu:4096x4096+bias,bf16", 4096));
  EXPECT_FALSE(pays("gelu:1024x4096+bias,bf16", 4096));
  EXPECT_FALSE(pays("gelu:2048x8192+bias,bf16", 1024));
  EXPECT_FALSE(pays("gelu:768x3072+bias,bf16", 1024));
  EXPECT_FALSE(pays("gelu:768x3072+bias,bf16", 2048));
  EXPECT_FALSE(pays("geglu:768x3072,bf16", 8192));
  EXPECT_FALSE(pays("geglu:1024x4096,bf16", 1024));
  EXPECT_FALSE(pays("swiglu:4096x14336,bf16", 1024));
}

// Tiles that end within a tile and k within a block, several launches one after another.
TEST(OneLaunch, IsExact) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const DeviceInfo device = fusedmlp::describe(Device::cuda()).value();
  if (device.compute_capability != 90) GTEST_SKIP() << "not Hopper";
  for (const char* text : {"relu:552x760->72+bias,bf16", "relu:72x4200->200,bf16", "relu:552x760->72+bias,fp16",
                           "reglu:552x760->72+bias,bf16", "reglu:72x2104->200,bf16", "reglu:552x760->72+bias,fp16"}) {
    const MlpSpec spec = spec_of(text);
    for (const std::int64_t tokens : {1, 64, 129, 1500}) {
      expect_exact_products(spec, tokens, "one launch", [&](const cuda::TwoGemms& products, cudaStream_t stream) {
        const OneLaunchCall call{products.hidden, products.out, fast_activation(spec), device.cores};
        Status status;
        for (int i = 0; i < 5 && status; ++i) {
          status =
              spec.dtype == DType::bf16 ? both_bf16(call, spec.gated, stream) : both_f16(call, spec.gated, stream);
        }
        return status;
      });
    }
  }
}

// A grid for the whole GPU on a part of it, and on all of it while another kernel comes and goes: CTAs that are not
// there are never waited for.
class OneLaunchRuns : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    device_ = fusedmlp::describe(Device::cuda()).value();
    if (device_.compute_capability != 90) GTEST_SKIP() << "not Hopper";
  }
  void TearDown() override { ::unsetenv("FUSEDMLP_KERNEL"); }

  struct Problem {
    explicit Problem(const char* text)
        : resident(spec_of(text), make_values(spec_of(text), kTokens, Data::integer, 3), kTokens),
          hidden(static_cast<std::size_t>(kTokens * resident.spec().d_hidden) * 2) {}
    Resident resident;
    DeviceBuffer hidden;
  };
  void queue(const Problem& problem, const Stream& stream, cudaStream_t handle) const {
    const MlpSpec& spec = problem.resident.spec();
    const RunArgs args = problem.resident.args(kTokens, stream);
    const cuda::TwoGemms products =
        cuda::two_gemms({spec, problem.resident.weights(), nullptr}, args.x, args.ldx, problem.hidden.data(),
                        spec.d_hidden, args.y, spec.d_out, kTokens);
    expect_ok(both_bf16({products.hidden, products.out, fast_activation(spec), device_.cores}, spec.gated, handle));
  }

  static constexpr std::int64_t kTokens = 900;
  DeviceInfo device_;
};

TEST_F(OneLaunchRuns, OnAPartOfTheGpuAndBesideAKernelThatTakesSms) {
  constexpr std::int64_t kRows = 4096;
  const MlpSpec large = spec_of("gelu:1024x1024,bf16");
  const Resident squatter(large, make_values(large, kRows, Data::normal, 4), kRows);
  ::setenv("FUSEDMLP_KERNEL", "cuda.portable", 1);
  const ::fusedmlp::Plan squat = squatter.plan();
  const Stream beside, own, other;
  const GreenContext part(partition(16).part);
  for (const char* text : {"reglu:256x1024,bf16", "relu:512x1024,bf16"}) {
    const Problem first(text), second(text);
    first.resident.poison_y();
    queue(first, own, own.handle());
    EXPECT_EQ(own.wait(), "");
    const std::vector<std::byte> want = first.resident.y(kTokens);

    first.resident.poison_y();
    for (int i = 0; i < 20; ++i) queue(first, own, part.stream());
    expect_ok(cudaStreamSynchronize(part.stream()));
    EXPECT_EQ(first.resident.y(kTokens), want) << text << " on " << part.sms() << " SMs";

    first.resident.poison_y();
    second.resident.poison_y();
    for (int round = 0; round < 200; ++round) {
      if (round % 8 == 0) expect_ok(squat.run(squatter.args(kRows, beside)));
      queue(first, own, own.handle());
      queue(second, other, other.handle());
    }
    EXPECT_EQ(own.wait(), "");
    EXPECT_EQ(other.wait(), "");
    EXPECT_EQ(beside.wait(), "");
    EXPECT_EQ(first.resident.y(kTokens), want) << text;
    EXPECT_EQ(second.resident.y(kTokens), want) << text;
  }
}

// Launches take two sets by turns; capturing again and again needs no more memory.
TEST(TileSlots, TakeTurnsAndComeBackWhenAGraphIsGone) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const Stream stream;
  const auto take = [&](bool launched) {
    std::uint32_t* words = nullptr;
    const Status status = cuda::with_tile_slot(stream.handle(), [&](std::uint32_t* own) {
      words = own;
      return launched ? Status() : Status(StatusCode::internal, "", "not launched");
    });
    EXPECT_EQ(status.ok(), launched);
    return words;
  };
  std::uint32_t* const first = take(true);
  std::uint32_t* const second = take(false);
  EXPECT_NE(first, second);
  EXPECT_EQ(take(true), second) << "a launch that failed has taken nothing";
  EXPECT_EQ(take(true), first);
  std::set<std::uint32_t*> seen;
  for (int i = 0; i < 300; ++i) {
    const Graph graph(stream, [&] { seen.insert(take(true)); });
  }
  EXPECT_EQ(seen.count(first) + seen.count(second), 0u);
  EXPECT_LT(seen.size(), 100u);
}

}  // namespace
}  // namespace fusedmlp::test
