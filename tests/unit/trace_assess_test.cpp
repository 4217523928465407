// Regimes, predictions and verdicts, with figures derived by hand from the H200's 797 TFLOP/s and 4.54 TB/s.
#include "trace/assess.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "made_trace.h"

namespace fusedmlp::trace {
namespace {

// gate, gelu, up, mul and down, in this order, ending at `us`.
Instance eager(MadeTrace& made, double us) {
  const Role roles[] = {Role::gate, Role::activation, Role::up, Role::multiply, Role::down};
  Instance out;
  for (int i = 0; i < 5; ++i) {
    out.parts.push_back({made.kernel("some kernel", us * i / 5, us * (i + 1) / 5), roles[i]});
  }
  return out;
}

struct Assessed {
  MlpRow row;
  double saving = 0;
  AnalyzedDevice used;
};

Assessed assess(MlpRow row, const DeviceProperties& properties = h200(), const AnalyzeOptions& options = {}) {
  MadeTrace made(properties);
  const Instance instance = eager(made, row.us_per_instance);
  const Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), options);
  EXPECT_TRUE(assessor) << assessor.status().to_string();
  Assessed out;
  out.saving = assessor->assess({&instance}, row);
  out.row = std::move(row);
  out.used = assessor->used();
  return out;
}

// Limit 145.501 us: 2 * 8192 * 3 * 768 * 3072 / 797e12. Fused: / 0.92 + 5.
TEST(TraceAssess, ComputeBound) {
  const Assessed a = assess(geglu(8192, 231.8, 6.9));
  EXPECT_EQ(a.row.regime, Regime::compute);
  EXPECT_EQ(a.row.verdict, Verdict::fuse);
  EXPECT_NEAR(*a.row.limit_us, 145.501, 0.001);
  EXPECT_NEAR(*a.row.predicted_us, 163.153, 0.001);
  EXPECT_NEAR(a.saving, 231.8 - 163.153, 0.001);
  EXPECT_DOUBLE_EQ(*a.row.baseline_us, 231.8);
  EXPECT_EQ(a.row.prediction_basis, "modelled");
  EXPECT_FALSE(a.row.hypothetical_us);
  EXPECT_EQ(a.row.reason,
            "compute-bound at 232 us with a limit of 146 us; predicted fused 163 us (modelled, prefill form)");
  EXPECT_EQ(a.used.name, "H200");
  EXPECT_EQ(*a.used.peak_flops, 989e12);
  EXPECT_EQ(*a.used.peak_bandwidth, 4.8e12);
  EXPECT_EQ(a.used.basis, "table: NVIDIA H200 data sheet, and measurements");
}

// Limit 4.8187 us: 1.7 + 14158848 bytes / 4.54e12. Fused: / 0.93 + 1.2. Gaps take more than kernels: the span counts.
TEST(TraceAssess, OverheadBoundIsComparedWithTheSpan) {
  const Assessed a = assess(geglu(1, 20, 80));
  EXPECT_EQ(a.row.regime, Regime::overhead);
  EXPECT_EQ(a.row.verdict, Verdict::fuse);
  EXPECT_NEAR(*a.row.predicted_us, 6.3814, 0.001);
  EXPECT_NEAR(a.saving, 100 - 6.3814, 0.001);
  EXPECT_DOUBLE_EQ(*a.row.baseline_us, 100);
  EXPECT_EQ(a.row.reason,
            "the GPU waits 80 % of 100 us; fused, its work is predicted to take 6.4 us (modelled, decode form)");
}

TEST(TraceAssess, GapsAsLongAsKernelsAreNoOverhead) {
  const Assessed a = assess(geglu(1, 20, 20));
  EXPECT_EQ(a.row.regime, Regime::memory);
  EXPECT_NEAR(a.saving, 20 - 6.3814, 0.001);
}

// 128x512 at 262144 tokens: 68.7 GFLOP take 86 us, but x, two passes over the hidden and y move 1.2 GB: 266 us.
// Fused, only x and y move: it is the traced traffic that makes it memory-bound.
TEST(TraceAssess, TrafficOfTheTracedKernelsDecidesTheRegime) {
  MadeTrace made;
  Instance instance;
  instance.parts = {{made.kernel("up", 0, 120), Role::up},
                    {made.kernel("gelu", 120, 240), Role::activation},
                    {made.kernel("down", 240, 366.5), Role::down}};
  MlpRow row = geglu(262144, 366.5);
  row.kind = "gelu";
  row.gated = false;
  row.d_in = row.d_out = 128;
  row.d_hidden = 512;
  const Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), {});
  ASSERT_TRUE(assessor);
  const double saving = assessor->assess({&instance}, row);
  EXPECT_EQ(row.regime, Regime::memory);
  EXPECT_NEAR(*row.limit_us, 86.22, 0.01);
  EXPECT_NEAR(*row.predicted_us, 86.22 / 0.76 + 1.2, 0.01);
  EXPECT_NEAR(saving, 366.5 - *row.predicted_us, 1e-9);
  EXPECT_NE(row.reason.find("memory-bound at 366 us, of which passes over the hidden take 120 us"), std::string::npos)
      << row.reason;
}

TEST(TraceAssess, ASavingWithinTheModelsErrorIsNone) {
  const double predicted = 145.501 / 0.92 + 5;
  EXPECT_EQ(assess(geglu(8192, predicted / 0.94)).row.verdict, Verdict::fuse);
  const Assessed a = assess(geglu(8192, predicted / 0.96));
  EXPECT_EQ(a.row.verdict, Verdict::do_not_fuse);
  EXPECT_EQ(a.saving, 0);
  EXPECT_NEAR(*a.row.predicted_us, predicted, 0.001);
  EXPECT_EQ(a.row.reason,
            "fused it is predicted to take 163 us, now 170 us: a saving below 5 % is within the model's error");
}

// No kernel below sm_80 and none for AMD: regime and limit are there, the saving is hypothetical.
TEST(TraceAssess, GpusWithoutAKernel) {
  for (const DeviceProperties& properties : {device("Tesla T4", 7, 5, 40), device("Tesla V100-SXM2-16GB", 7, 0, 80),
                                             device("AMD Instinct MI300X", 9, 4, 304)}) {
    MlpRow row = geglu(8192, 40000);
    row.dtype = "fp16";
    const Assessed a = assess(row, properties);
    EXPECT_EQ(a.row.verdict, Verdict::do_not_fuse) << properties.name;
    EXPECT_EQ(a.row.reason, "no kernel for this GPU") << properties.name;
    EXPECT_EQ(a.row.prediction_basis, "unsupported") << properties.name;
    EXPECT_EQ(a.row.regime, Regime::compute) << properties.name;
    EXPECT_TRUE(a.row.limit_us) << properties.name;
    EXPECT_FALSE(a.row.predicted_us) << properties.name;
    ASSERT_TRUE(a.row.hypothetical_us) << properties.name;
    EXPECT_NEAR(*a.row.hypothetical_us, *a.row.limit_us / 0.92 + 5, 1e-6) << properties.name;
    EXPECT_EQ(a.saving, 0) << properties.name;
  }
}

TEST(TraceAssess, T4AtItsFp16Rate) {
  MlpRow row = geglu(8192, 40000);
  row.dtype = "fp16";
  EXPECT_NEAR(*assess(row, device("Tesla T4", 7, 5, 40)).row.limit_us, 115964.116992 / (65.0 * 797 / 989), 0.01);
}

TEST(TraceAssess, AnUnknownDeviceHasNoRates) {
  const Assessed a = assess(geglu(8192, 300), device("NVIDIA Jetson Orin", 8, 7, 16));
  EXPECT_FALSE(a.row.regime);
  EXPECT_FALSE(a.row.limit_us);
  EXPECT_FALSE(a.row.predicted_us);
  EXPECT_EQ(a.row.verdict, Verdict::do_not_fuse);
  EXPECT_EQ(a.row.reason, "the rates of NVIDIA Jetson Orin are not known; peak FLOP/s and bandwidth can be given");
  EXPECT_EQ(a.used.basis, "unknown");
  EXPECT_FALSE(a.used.peak_flops);
}

TEST(TraceAssess, GivenPeaksMakeUpForAnUnknownDevice) {
  AnalyzeOptions options;
  options.peak_flops = 100e12;
  options.peak_bandwidth = 1e12;
  const Assessed a = assess(geglu(8192, 2500), device("NVIDIA Jetson Orin", 8, 7, 16), options);
  EXPECT_EQ(a.row.regime, Regime::compute);
  EXPECT_NEAR(*a.row.limit_us, 115964.116992 / (100.0 * 797 / 989), 0.001);
  EXPECT_EQ(a.row.verdict, Verdict::fuse);
  EXPECT_EQ(a.used.basis, "given");
}

// Of a trace without deviceProperties.
TEST(TraceAssess, AGpuThatHasNoNameNeedsPeaks) {
  MadeTrace made;
  made.trace().devices.clear();
  const Instance instance = eager(made, 2500);
  MlpRow row = geglu(8192, 2500);
  AnalyzeOptions options;
  Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), options);
  ASSERT_TRUE(assessor);
  EXPECT_EQ(assessor->assess({&instance}, row), 0);
  EXPECT_EQ(row.reason, "the rates of this device are not known; peak FLOP/s and bandwidth can be given");
  options.peak_flops = 100e12;
  options.peak_bandwidth = 1e12;
  assessor = Assessor::create(made.trace(), made.joined(), options);
  ASSERT_TRUE(assessor);
  EXPECT_GT(assessor->assess({&instance}, row), 0);
  EXPECT_EQ(row.verdict, Verdict::fuse);
  EXPECT_NEAR(*row.limit_us, 115964.116992 / (100.0 * 797 / 989), 0.001);
  EXPECT_EQ(assessor->used().basis, "given");
}

TEST(TraceAssess, AnEstimatedDeviceSaysSo) {
  const Assessed a = assess(geglu(8192, 300), device("NVIDIA GH200 480GB", 9, 0, 132));
  EXPECT_EQ(a.used.basis, "estimated from compute capability 9.0 and 132 SMs: H100 SXM scaled by 1.00");
  EXPECT_TRUE(a.row.predicted_us);
  // A slice of a GPU keeps its name; the number of SMs tells.
  EXPECT_EQ(*assess(geglu(8192, 900), device("NVIDIA H100 80GB HBM3", 9, 0, 66)).used.peak_flops, 989e12 / 2);
}

TEST(TraceAssess, WithoutShapesNothingIsPredicted) {
  MlpRow row = geglu(8192, 200);
  row.tokens = row.d_in = row.d_hidden = row.d_out = std::nullopt;
  const Assessed a = assess(row);
  EXPECT_FALSE(a.row.regime);
  EXPECT_FALSE(a.row.limit_us);
  EXPECT_EQ(a.row.reason,
            "nothing is predicted without tokens, widths, which the trace does not hold (record_shapes=True records "
            "it)");
  row = geglu(1, 20, 80);
  row.tokens = std::nullopt;
  EXPECT_EQ(assess(row).row.regime, Regime::overhead);  // gaps need no shapes
}

TEST(TraceAssess, WhatNoKernelDoes) {
  MlpRow row = geglu(8192, 300);
  row.phase = Phase::backward;
  Assessed a = assess(row);
  EXPECT_EQ(a.row.reason, "no fused kernel for the backward pass");
  EXPECT_NEAR(*a.row.limit_us, 2 * 145.501, 0.001);  // two products for each of the forward pass
  EXPECT_TRUE(a.row.hypothetical_us);

  row = geglu(8192, 3000);
  row.dtype = "fp32";
  a = assess(row);
  EXPECT_EQ(a.row.reason, "no GPU kernel for fp32, only for bf16 and fp16");
  EXPECT_NEAR(*a.row.limit_us, 145.501 * 989 / 67, 0.01);

  row = geglu(8192, 300);
  row.kind = "mish";
  EXPECT_EQ(assess(row).row.reason, "no kernel for mish");
}

// 128 experts, 8 a token, 2048x768 each, 64 tokens: uniform routing reaches 128 (1 - (1 - 1/16)^64) experts.
TEST(TraceAssess, ExpertsReadTheWeightsOfThoseThatAreReached) {
  MlpRow row = geglu(64, 774);
  row.kind = "swiglu";
  row.d_in = row.d_out = 2048;
  row.d_hidden = 768;
  row.experts = 128;
  row.top_k = 8;
  const Assessed a = assess(row);
  const double reached = 128 * (1 - std::pow(15.0 / 16, 64));
  const double bytes = reached * 3 * 2048 * 768 * 2 + 64 * 4096 * 2;
  EXPECT_NEAR(*a.row.limit_us, 1.7 + bytes / 4.54e6, 0.001);
  EXPECT_EQ(a.row.reason, "no fused kernel for mixtures of experts");
  EXPECT_FALSE(a.row.predicted_us);
  row.top_k = std::nullopt;
  EXPECT_FALSE(assess(row).row.limit_us);
}

TEST(TraceAssess, WhatIsFusedStaysAsItIs) {
  MadeTrace made;
  const Instance instance =
      instance_of({{made.kernel("void fusedmlp::sm90::prefill<bf16>(int)", 0, 163), Role::down}});
  MlpRow row = geglu(8192, 163);
  const Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), {});
  ASSERT_TRUE(assessor);
  EXPECT_EQ(assessor->assess({&instance}, row), 0);
  EXPECT_EQ(row.verdict, Verdict::do_not_fuse);
  EXPECT_EQ(row.reason, "it is fused already");
  EXPECT_NEAR(*row.limit_us, 145.501, 0.001);
}

TEST(TraceAssess, ACpuTraceHasNoRates) {
  MadeTrace made;
  made.trace().devices.clear();
  const Instance instance = instance_of({{made.add(Category::cpu_op, "aten::mm", 0, 10), Role::up},
                                         {made.add(Category::cpu_op, "aten::mm", 12, 20), Role::down}});
  MlpRow row = geglu(8192, 18, 2);
  AnalyzeOptions options;
  Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), options);
  ASSERT_TRUE(assessor);
  EXPECT_EQ(assessor->assess({&instance}, row), 0);
  EXPECT_FALSE(row.regime);
  EXPECT_FALSE(row.limit_us);
  EXPECT_EQ(row.prediction_basis, "unsupported");
  EXPECT_EQ(row.reason, "the trace is of a CPU whose rates are not in it; `fusedmlp bench` measures them there");
  options.target = "H200";
  assessor = Assessor::create(made.trace(), made.joined(), options);
  ASSERT_TRUE(assessor);
  EXPECT_EQ(assessor->assess({&instance}, row), 0);
  EXPECT_NEAR(*row.predicted_us, 163.153, 0.001);
  EXPECT_EQ(row.reason,
            "the trace's times are a CPU's, no baseline for a GPU: analyze a trace of the model on a GPU");
}

// Kernels stay as far from the roofline as they were: 989 / 989 of the rate, so 231.8 us there as well.
TEST(TraceAssess, AnotherGpuAsTarget) {
  AnalyzeOptions options;
  options.target = "A100";
  const Assessed a = assess(geglu(8192, 231.8, 6.9), h200(), options);
  EXPECT_EQ(a.used.name, "A100 SXM 80GB");
  EXPECT_NEAR(*a.row.limit_us, 145.501 * 989 / 312, 0.001);
  EXPECT_NEAR(*a.row.predicted_us, 582, 60);  // of the kernel for every GPU, tests/unit/gpu_portable_test.cpp
  EXPECT_NEAR(*a.row.baseline_us, 231.8 * 989 / 312, 0.001);
  EXPECT_NEAR(a.saving, *a.row.baseline_us - *a.row.predicted_us, 0.001);
  EXPECT_NE(a.row.reason.find(" on A100 SXM 80GB (modelled, portable form)"), std::string::npos) << a.row.reason;
  options.target = "T4";
  EXPECT_EQ(assess(geglu(8192, 231.8), h200(), options).row.reason, "no kernel for this GPU");
}

// Dispatch would hand it back to the framework there: no advice to fuse.
TEST(TraceAssess, WherePortableKernelsAreSlowerThanALibraryFusingIsNoAdvice) {
  AnalyzeOptions options;
  options.target = "B200";
  const Assessed a = assess(geglu(8192, 600, 6.9), h200(), options);
  EXPECT_GT(*a.row.baseline_us, 1.3 * *a.row.predicted_us);  // slow as it is, but not as a library would do it
  EXPECT_EQ(a.row.verdict, Verdict::do_not_fuse);
  EXPECT_EQ(a.saving, 0);
  EXPECT_NEAR(*a.row.predicted_us, 174.6, 35);
  EXPECT_NE(a.row.reason.find("B200 has this library's portable kernel alone, predicted to take"), std::string::npos)
      << a.row.reason;
  EXPECT_NE(a.row.reason.find("a framework's own operations are predicted to take 125 us"), std::string::npos)
      << a.row.reason;
}

// A file lists every device of the machine; what ran decides.
TEST(TraceAssess, TheDeviceIsTheOneThatRan) {
  MadeTrace made(device("Tesla T4", 7, 5, 40));
  DeviceProperties second = h200();
  second.id = 1;
  made.trace().devices.push_back(second);
  const Instance instance = eager(made, 231.8);
  for (DeviceArgs& args : made.trace().device_args) args.device = 1;
  const Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), {});
  ASSERT_TRUE(assessor);
  EXPECT_EQ(assessor->used().name, "H200");
  MlpRow row = geglu(8192, 231.8);
  assessor->assess({&instance}, row);
  EXPECT_NEAR(*row.predicted_us, 163.153, 0.001);
}

TEST(TraceAssess, WrongOptions) {
  MadeTrace made;
  AnalyzeOptions options;
  options.target = "Z80";
  Result<Assessor> assessor = Assessor::create(made.trace(), made.joined(), options);
  ASSERT_FALSE(assessor);
  EXPECT_EQ(assessor.status().argument(), "target");
  EXPECT_EQ(assessor.status().message().rfind("got \"Z80\", accepted: A100 PCIe 40GB, ", 0), 0u);
  for (const double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    options = {};
    options.peak_flops = bad;
    assessor = Assessor::create(made.trace(), made.joined(), options);
    ASSERT_FALSE(assessor);
    EXPECT_EQ(assessor.status().argument(), "peak_flops");
    options = {};
    options.peak_bandwidth = bad;
    assessor = Assessor::create(made.trace(), made.joined(), options);
    ASSERT_FALSE(assessor);
    EXPECT_EQ(assessor.status().argument(), "peak_bandwidth");
  }
}

}  // namespace
}  // namespace fusedmlp::trace
