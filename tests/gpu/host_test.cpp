// What the rest of a process sees of the library on a GPU: its current device and contexts, its captures, its errors;
// and that explain asks what run asks.
#include <cuda.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/launches.h"
#include "cuda/common/recording.h"
#include "fusedmlp/c_api.h"
#include "gpu/cards.h"
#include "gpu/guarded_run.h"
#include "gpu/resident.h"

namespace fusedmlp::test {
namespace {

const char* const kSpec = "geglu:256x1024,bf16";

TEST(Recording, EndsWithAnException) {
  const core::KernelEntry throws{
      "throws",
      "",
      nullptr,
      [](const core::Query&) { return std::string(); },
      [](const core::Query&) { return std::size_t{0}; },
      [](const core::Query&) { return core::Prediction{}; },
      [](const core::Problem&, const RunArgs&, const DeviceInfo&) -> Status { throw std::bad_alloc(); }};
  const DeviceInfo device = h200();
  const MlpSpec spec = spec_of(kSpec);
  EXPECT_THROW(static_cast<void>(core::cuda_launches(throws, {spec, 4, device, 1, false})), std::bad_alloc);
  EXPECT_EQ(cuda::recording(), nullptr);
}

TEST(Host, APlanMayGoWhileAStreamIsCaptured) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const MlpSpec spec = spec_of(kSpec);
  const Resident problem(spec, make_values(spec, 300, Data::normal, 3), 300);
  const Stream own, captured;
  for (const bool same_thread : {true, false}) {
    std::optional<Plan> plan(problem.plan());
    expect_ok(plan->run(problem.args(300, own)));
    EXPECT_EQ(own.wait(), "");
    expect_ok(cudaStreamBeginCapture(captured.handle(), cudaStreamCaptureModeGlobal));
    if (same_thread) {
      plan.reset();
    } else {
      std::thread([&] { plan.reset(); }).join();
    }
    cudaGraph_t graph = nullptr;
    expect_ok(cudaStreamEndCapture(captured.handle(), &graph));
    expect_ok(cudaPeekAtLastError());
    if (graph != nullptr) expect_ok(cudaGraphDestroy(graph));
  }
}

// The driver's, without the runtime, which might make a context to find it.
template <class Function>
Function driver_function(const char* symbol) {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  return library == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library, symbol));
}

// 0 or 1: whether GPU 0 has a primary context in this process.
int context_on_gpu_0() {
  const auto state = driver_function<decltype(&cuDevicePrimaryCtxGetState)>("cuDevicePrimaryCtxGetState");
  unsigned flags = 0;
  int active = -1;
  return state != nullptr && state(0, &flags, &active) == CUDA_SUCCESS ? active : -1;
}

bool has_two_gpus() { return has_gpu() && describe(Device::cuda(1)).ok(); }

// run(plan of GPU 1, arguments), on a thread whose current device is another.
template <class Body>
void with_second_gpu(const Body& run) {
  std::thread([&] {
    const MlpSpec spec = spec_of(kSpec);
    expect_ok(cudaSetDevice(1));
    const Resident problem(spec, make_values(spec, 40, Data::normal, 3), 40);
    const Stream stream;
    std::thread([&] {
      const Result<Plan> plan = Plan::create(spec, problem.weights(), Device::cuda(1));
      ASSERT_TRUE(plan.ok()) << plan.status().to_string();
      run(*plan, problem.args(40, stream));
    }).join();
    EXPECT_EQ(stream.wait(), "");
  }).join();
}

// In a process of its own: nothing else has used GPU 0 there.
TEST(HostDeathTest, ARunElsewhereMakesNoContextOnGpu0) {
  if (!has_two_gpus()) GTEST_SKIP() << "no second GPU";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto alone = [] {
    EXPECT_EQ(context_on_gpu_0(), 0) << "at the start";
    with_second_gpu([](const Plan& plan, const RunArgs& args) {
      EXPECT_EQ(context_on_gpu_0(), 0) << "before the run";
      expect_ok(plan.run(args));
      EXPECT_EQ(context_on_gpu_0(), 0) << "after it";
      int device = -1;
      expect_ok(cudaGetDevice(&device));
      EXPECT_EQ(device, 0);
    });
    std::_Exit(::testing::Test::HasFailure() ? 3 : 0);
  };
  EXPECT_EXIT(alone(), ::testing::ExitedWithCode(0), "");
}

TEST(Host, ARunElsewhereLeavesTheCallersContext) {
  if (!has_two_gpus()) GTEST_SKIP() << "no second GPU";
  const auto current = driver_function<decltype(&cuCtxGetCurrent)>("cuCtxGetCurrent");
  const auto create = driver_function<decltype(&cuCtxCreate)>("cuCtxCreate_v4");
  const auto destroy = driver_function<decltype(&cuCtxDestroy)>("cuCtxDestroy_v2");
  ASSERT_TRUE(current && create && destroy);
  with_second_gpu([&](const Plan& plan, const RunArgs& args) {
    CUcontext own = nullptr;
    ASSERT_EQ(create(&own, nullptr, 0, 0), CUDA_SUCCESS);  // current from here on
    expect_ok(plan.run(args));
    CUcontext now = nullptr;
    EXPECT_EQ(current(&now), CUDA_SUCCESS);
    EXPECT_EQ(now, own);
    EXPECT_EQ(destroy(own), CUDA_SUCCESS);
  });
}

TEST(Explain, OfAPlanIsAboutItsWeights) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const MlpSpec spec = spec_of("gelu:768x3072,bf16");
  for (const bool in_out : {false, true}) {
    for (const std::int64_t tokens : {1, 64, 300}) {
      const Resident problem(spec, make_values(spec, tokens, Data::normal, 3), tokens,
                             {.in_out = in_out, .aligned = true});
      const Plan plan = problem.plan();
      const Stream stream;
      const Result<Selection> runs =
          select(spec, problem.weights(), nullptr, problem.args(tokens, stream), Device::cuda());
      ASSERT_TRUE(runs.ok()) << runs.status().to_string();
      EXPECT_NE(plan.explain(tokens).find(std::string("\n* ") + runs->kernel), std::string::npos)
          << runs->kernel << " runs, but " << plan.explain(tokens);
    }
  }
}

TEST(Explain, CountsNoThreadsOnAGpu) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  char* text = fusedmlp_explain_json(kSpec, 64, "cuda");
  EXPECT_NE(std::string(text).find("\"threads\":1,"), std::string::npos) << text;
  fusedmlp_free(text);
}

}  // namespace
}  // namespace fusedmlp::test
