// The GPU cost model: names, figures derived by hand, and estimates that say what they are.
#include "core/gpu_model.h"

#include <gtest/gtest.h>

#include <string>

namespace fusedmlp::core {
namespace {

GpuModel gpu(const char* name) {
  const std::optional<GpuModel> model = find_gpu(name);
  EXPECT_TRUE(model) << name;
  return model.value_or(GpuModel{});
}

MlpSpec spec(const char* text) { return parse_spec(text).value(); }

double limit_us(const GpuModel& model, const char* text, std::int64_t tokens, GpuType type = GpuType::bf16) {
  return gpu_limit(model, type, gpu_work(spec(text), tokens))->seconds * 1e6;
}

double fused_us(const GpuModel& model, const char* text, std::int64_t tokens, GpuType type = GpuType::bf16) {
  return gpu_fused(model, type, gpu_work(spec(text), tokens))->seconds * 1e6;
}

struct Named {
  const char* driver;
  const char* expected;  // empty: not in the table
};

// Names as drivers report them in deviceProperties.
constexpr Named kNames[] = {
    {"NVIDIA A100-SXM4-40GB", "A100 SXM 40GB"},
    {"NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"},
    {"NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"},
    {"NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"},
    {"NVIDIA H100 80GB HBM3", "H100 SXM"},
    {"NVIDIA H100 PCIe", "H100 PCIe"},
    {"NVIDIA H100 NVL", "H100 NVL"},
    {"NVIDIA H200", "H200"},
    {"NVIDIA H200 NVL", "H200 NVL"},
    {"NVIDIA B200", "B200"},
    {"NVIDIA L40S", "L40S"},
    {"NVIDIA L4", "L4"},
    {"NVIDIA GeForce RTX 3090", "RTX 3090"},
    {"NVIDIA GeForce RTX 4090", "RTX 4090"},
    {"NVIDIA GeForce RTX 5090", "RTX 5090"},
    {"Tesla T4", "T4"},
    {"Tesla V100-SXM2-16GB", "V100 SXM"},
    {"Tesla V100-PCIE-32GB", "V100 PCIe"},
    {"AMD Instinct MI300X", "MI300X"},
    {"AMD Instinct MI300X VF", "MI300X"},
    // As a target.
    {"H100", "H100 SXM"},
    {"h200", "H200"},
    {"A100", "A100 SXM 80GB"},
    {"rtx 4090", "RTX 4090"},
    {"T4", "T4"},
    // Other models with a known word in their names.
    {"NVIDIA GeForce RTX 3090 Ti", ""},
    {"NVIDIA GeForce RTX 4090 D", ""},
    {"NVIDIA GeForce RTX 4090 Laptop GPU", ""},
    {"NVIDIA GH200 480GB", ""},
    {"NVIDIA GB200", ""},
    {"NVIDIA L40", ""},
    {"NVIDIA A100-SXM4-40GB MIG 3g.20gb", ""},
    {"AMD Instinct MI325X", ""},
    {"NVIDIA H20", ""},
    {"", ""},
};

TEST(GpuModel, DriverNames) {
  for (const Named& named : kNames) {
    const std::optional<GpuModel> model = find_gpu(named.driver);
    EXPECT_EQ(model ? model->name : "", named.expected) << named.driver;
  }
}

TEST(GpuModel, EveryNameOfTheListIsFound) {
  const std::string names = gpu_names();
  std::size_t count = 0;
  for (std::size_t at = 0; at < names.size(); ++count) {
    const std::size_t end = std::min(names.find(", ", at), names.size());
    const std::string name = names.substr(at, end - at);
    EXPECT_EQ(gpu(name.c_str()).name, name);
    EXPECT_FALSE(gpu(name.c_str()).origin.empty());
    at = end + 2;
  }
  EXPECT_EQ(count, 19u);
}

// 2 * 8192 * 3 * 768 * 3072 FLOPs at 797 TFLOP/s; fused: that / 0.92 + 5 us.
TEST(GpuModel, PrefillOnTheH200) {
  const GpuModel h200 = gpu("H200");
  EXPECT_NEAR(limit_us(h200, "geglu:768x3072", 8192), 145.501, 0.001);
  EXPECT_NEAR(fused_us(h200, "geglu:768x3072", 8192), 145.501 / 0.92 + 5, 0.001);
  EXPECT_EQ(gpu_limit(h200, GpuType::bf16, gpu_work(spec("geglu:768x3072,bf16"), 8192))->bound, Bound::compute);
  EXPECT_EQ(gpu_limit(h200, GpuType::bf16, gpu_work(spec("geglu:768x3072,bf16"), 8192))->basis, Basis::measured);
}

// 3 * 768 * 3072 * 2 bytes of weights and 2 * 768 * 2 of x and y at 4.54 TB/s, after 1.7 us; fused: / 0.93 + 1.2 us.
TEST(GpuModel, DecodeOnTheH200) {
  const GpuModel h200 = gpu("H200");
  EXPECT_NEAR(limit_us(h200, "geglu:768x3072,bf16", 1), 1.7 + 3.1187, 0.001);
  EXPECT_NEAR(fused_us(h200, "geglu:768x3072,bf16", 1), 4.8187 / 0.93 + 1.2, 0.001);
  EXPECT_EQ(gpu_limit(h200, GpuType::bf16, gpu_work(spec("geglu:768x3072,bf16"), 1))->bound, Bound::memory);
}

struct Floor {
  const char* spec;
  std::int64_t tokens;
  double us;
};

// Floors that were measured on the H200 (a streaming kernel) or follow from 797 TFLOP/s.
constexpr Floor kFloors[] = {
    {"geglu:768x3072,bf16", 1, 4.8},      {"geglu:768x3072,bf16", 1024, 18.2},
    {"gelu:1024x4096,bf16", 8192, 172.4}, {"gelu:4096x4096,bf16", 1, 16.9},
    {"swiglu:4096x14336,bf16", 1, 81.0},  {"swiglu:4096x14336,bf16", 8192, 3621},
    {"geglu:2048x16384,bf16", 1, 46.5},   {"swiglu:8192x28672,bf16", 1, 311.5},
    {"gelu:128x512,bf16", 262144, 86.2},  {"gelu:256x1024,bf16", 262144, 344.8},
};

TEST(GpuModel, FloorsOfTheH200WithinFivePercent) {
  for (const Floor& floor : kFloors) {
    EXPECT_NEAR(limit_us(gpu("H200"), floor.spec, floor.tokens) / floor.us, 1, 0.05)
        << floor.spec << " " << floor.tokens;
  }
}

// The prototypes that the stated efficiencies come from, which are within 15 % of them.
constexpr Floor kPrototypes[] = {
    {"geglu:768x3072,bf16", 1, 6.03},     {"swiglu:4096x14336,bf16", 1, 83.7}, {"swiglu:4096x14336,bf16", 16, 90.5},
    {"geglu:768x3072,bf16", 8192, 154.1}, {"geglu:768x3072,bf16", 1024, 27.6}, {"gelu:128x512,bf16", 262144, 115.7},
    {"gelu:128x512,bf16", 65536, 33.5},   {"gelu:256x1024,bf16", 262144, 380}, {"gelu:256x1024,bf16", 65536, 105},
};

TEST(GpuModel, PrototypesOfTheH200WithinFifteenPercent) {
  for (const Floor& point : kPrototypes) {
    EXPECT_NEAR(fused_us(gpu("H200"), point.spec, point.tokens) / point.us, 1, 0.15)
        << point.spec << " " << point.tokens;
    EXPECT_GT(fused_us(gpu("H200"), point.spec, point.tokens), limit_us(gpu("H200"), point.spec, point.tokens));
  }
}

TEST(GpuModel, FormsOfAFusedMlp) {
  EXPECT_STREQ(gpu_fused_form(gpu_work(spec("gelu:128x512"), 64)), "decode");
  EXPECT_STREQ(gpu_fused_form(gpu_work(spec("gelu:128x512"), 65)), "narrow");
  EXPECT_STREQ(gpu_fused_form(gpu_work(spec("gelu:256x1024"), 65)), "narrow");
  EXPECT_STREQ(gpu_fused_form(gpu_work(spec("gelu:257x1024"), 65)), "prefill");
  EXPECT_STREQ(gpu_fused_form(gpu_work(spec("gelu:128x512->257"), 65)), "prefill");
}

// Peaks without a measurement carry the H200's shares, 797 / 989 and 4540 / 4800, and say "modelled".
TEST(GpuModel, OtherGpusCarryTheSharesOver) {
  const GpuModel a100 = gpu("NVIDIA A100-SXM4-80GB");
  EXPECT_NEAR(limit_us(a100, "geglu:768x3072", 8192), 115964116992.0 / (312e12 * 797 / 989) * 1e6, 1e-6);
  EXPECT_EQ(gpu_fused(a100, GpuType::bf16, gpu_work(spec("geglu:768x3072"), 1))->basis, Basis::modelled);
  EXPECT_EQ(gpu_limit(a100, GpuType::bf16, gpu_work(spec("geglu:768x3072"), 1))->basis, Basis::modelled);
}

TEST(GpuModel, TypesHaveRatesOfTheirOwn) {
  const GpuModel h100 = gpu("H100");
  const double bf16 = limit_us(h100, "gelu:4096x4096", 8192, GpuType::bf16);
  EXPECT_NEAR(limit_us(h100, "gelu:4096x4096", 8192, GpuType::fp16), bf16, 1e-9);
  EXPECT_NEAR(limit_us(h100, "gelu:4096x4096", 8192, GpuType::tf32), bf16 * 989 / 494, 1e-6);
  EXPECT_NEAR(limit_us(h100, "gelu:4096x4096", 8192, GpuType::fp32), bf16 * 989 / 67, 1e-6);
  // No bf16 units: products run in fp32.
  EXPECT_GT(limit_us(gpu("T4"), "gelu:768x3072", 8192, GpuType::bf16),
            7.9 * limit_us(gpu("T4"), "gelu:768x3072", 8192, GpuType::fp16));
}

TEST(GpuModel, EstimatesSayWhatTheyAre) {
  const std::optional<GpuModel> gh200 = estimate_gpu("NVIDIA GH200 480GB", 90, 132);
  ASSERT_TRUE(gh200);
  EXPECT_EQ(gh200->name, "NVIDIA GH200 480GB");
  EXPECT_EQ(gh200->origin, "estimated from compute capability 9.0 and 132 SMs: H100 SXM scaled by 1.00");
  const std::optional<GpuModel> half = estimate_gpu("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 80, 54);
  ASSERT_TRUE(half);
  EXPECT_DOUBLE_EQ(half->peak_flops[0], 156e12);
  EXPECT_EQ(half->basis, Basis::modelled);
  const std::optional<GpuModel> geforce = estimate_gpu("NVIDIA GeForce RTX 4080", 89, 76);
  ASSERT_TRUE(geforce);
  EXPECT_DOUBLE_EQ(geforce->peak_flops[0], 165.2e12 * 76 / 128);
  EXPECT_FALSE(estimate_gpu("NVIDIA Jetson", 87, 16));
  EXPECT_FALSE(estimate_gpu("NVIDIA H20", 90, 0));
  EXPECT_FALSE(estimate_gpu("AMD Instinct MI300A", 90, 228));
}

TEST(GpuModel, NoRateNoPrediction) {
  GpuModel unknown;
  EXPECT_FALSE(gpu_limit(unknown, GpuType::bf16, gpu_work(spec("gelu:768x3072"), 1)));
  unknown.peak_bandwidth = 1e12;
  EXPECT_FALSE(gpu_fused(unknown, GpuType::bf16, gpu_work(spec("gelu:768x3072"), 1)));
  unknown.peak_flops[0] = 1e14;
  EXPECT_TRUE(gpu_fused(unknown, GpuType::bf16, gpu_work(spec("gelu:768x3072"), 1)));
  EXPECT_FALSE(gpu_fused(unknown, GpuType::fp16, gpu_work(spec("gelu:768x3072"), 1)));
}

TEST(GpuModel, WhatNoKernelSupports) {
  for (const char* name : {"T4", "V100", "MI300X"}) {
    EXPECT_EQ(gpu_unsupported(gpu(name), GpuType::fp16), "no kernel for this GPU") << name;
  }
  for (const char* name : {"A100", "H100", "H200", "B200", "L4", "L40S", "RTX 3090", "RTX 4090", "RTX 5090"}) {
    EXPECT_EQ(gpu_unsupported(gpu(name), GpuType::bf16), "") << name;
    EXPECT_EQ(gpu_unsupported(gpu(name), GpuType::fp16), "") << name;
    EXPECT_EQ(gpu_unsupported(gpu(name), GpuType::fp32), "no GPU kernel for fp32, only for bf16 and fp16") << name;
  }
}

}  // namespace
}  // namespace fusedmlp::core
