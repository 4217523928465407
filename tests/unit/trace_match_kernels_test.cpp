// The matcher on kernels alone (replayed CUDA graphs, traces without ops) and on serving engines' kernels and ops.
//
// Names: vLLM csrc/activation_kernels.cu (vllm::act_and_mul_kernel) and
// vllm/model_executor/layers/fused_moe/fused_moe.py (fused_moe_kernel, the op inplace_fused_experts); FlashInfer
// include/flashinfer/activation.cuh (flashinfer::activation::act_and_mul_kernel), which SGLang uses; CUTLASS, cuBLAS
// and Inductor as in the trace files of tests/data.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "trace_builder.h"

namespace fusedmlp::test {
namespace {

using trace::Instance;
using trace::Matches;

constexpr const char* kGemm = "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_TNT";
constexpr const char* kGemmBias = "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT";
constexpr const char* kSplitK =
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, __nv_bfloat16, false, float, "
    "__nv_bfloat16, __nv_bfloat16, true, false, false>(cublasLt::cublasSplitKParams<float>)";
constexpr const char* kGelu =
    "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&, "
    "at::native::GeluType)::{lambda()#2}::operator()() const::{lambda()#4}::operator()() "
    "const::{lambda(c10::BFloat16)"
    "#1}, std::array<char*, 2ul> >(int)";
constexpr const char* kSilu =
    "void at::native::vectorized_elementwise_kernel<8, at::native::(anonymous namespace)::silu_kernel(at::"
    "TensorIteratorBase&)::{lambda()#1}::operator()() const::{lambda(c10::BFloat16)#1}, std::array<char*, 2ul> "
    ">(int)";
constexpr const char* kMul =
    "void at::native::vectorized_elementwise_kernel<8, at::native::BinaryFunctor<c10::BFloat16, c10::BFloat16, "
    "c10::BFloat16, at::native::binary_internal::MulFunctor<float> >, std::array<char*, 3ul> >(int)";
constexpr const char* kAdd =
    "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, "
    "3ul> >(int)";
constexpr const char* kNorm = "triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0";
constexpr const char* kAttention =
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1";
constexpr const char* kVllmSilu =
    "void vllm::act_and_mul_kernel<c10::BFloat16, &(c10::BFloat16 vllm::silu_kernel<c10::BFloat16>(c10::BFloat16 "
    "const&)), true>(c10::BFloat16*, c10::BFloat16 const*, int)";
constexpr const char* kFlashInferSilu =
    "void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16, &(silu(float const&))>(__nv_bfloat16*, "
    "__nv_bfloat16 const*, int)";

Matches replay(const std::vector<std::string>& kernels) {
  TraceBuilder b;
  for (const std::string& kernel : kernels) b.replay(kernel);
  return b.match();
}

// What kernels do not say is not made up.
void expect_unknown_dims(const Instance& i) {
  EXPECT_EQ(i.tokens, std::nullopt);
  EXPECT_EQ(i.d_in, std::nullopt);
  EXPECT_EQ(i.d_hidden, std::nullopt);
  EXPECT_EQ(i.d_out, std::nullopt);
  EXPECT_LT(i.confidence, 0.8);
}

TEST(MatchKernels, PlainWithSplitKAndBiasInTheName) {
  const Matches found = replay({kNorm, kGemmBias, kGelu, kGemmBias, kSplitK, kAdd});
  ASSERT_EQ(found.instances.size(), 1u);
  const Instance& mlp = found.instances[0];
  EXPECT_EQ(mlp.kind, "gelu");
  EXPECT_EQ(mlp.dtype, "bf16");
  EXPECT_EQ(mlp.bias, true);
  expect_unknown_dims(mlp);
  ASSERT_EQ(mlp.parts.size(), 4u);
  EXPECT_EQ(mlp.parts[3].role, Role::reduce);
}

TEST(MatchKernels, GatedInEachOrder) {
  for (const std::vector<std::string>& kernels : {std::vector<std::string>{kGemm, kSilu, kGemm, kMul, kGemm},
                                                  {kGemm, kGemm, kSilu, kMul, kGemm},
                                                  {kGemm, kGemm, "triton_poi_fused_mul_silu_1", kGemm}}) {
    const Matches found = replay(kernels);
    ASSERT_EQ(found.instances.size(), 1u) << kernels.size();
    EXPECT_EQ(found.instances[0].kind, "swiglu");
    EXPECT_EQ(found.instances[0].parts.size(), kernels.size());
    EXPECT_EQ(found.instances[0].bias, std::nullopt);
    expect_unknown_dims(found.instances[0]);
  }
}

TEST(MatchKernels, ServingEnginesPackGateAndUp) {
  for (const char* activation : {kVllmSilu, kFlashInferSilu}) {
    const Matches found = replay({kAttention, kGemm, kNorm, kGemm, activation, kGemm, kNorm});
    ASSERT_EQ(found.instances.size(), 1u) << activation;
    EXPECT_EQ(found.instances[0].kind, "swiglu");
    ASSERT_EQ(found.instances[0].parts.size(), 3u);
    EXPECT_EQ(found.instances[0].parts[0].role, Role::gate_up);
  }
  // A router's product right before: the kernel reads one packed tensor, so the pair is not gate and up.
  EXPECT_EQ(replay({kGemm, kGemm, kVllmSilu, kGemm}).instances.at(0).parts.size(), 3u);
}

TEST(MatchKernels, AmbiguousStepsAreNoMlp) {
  // clamp is ReLU or another limit; add between two products is a residual; tanh alone is a pooler.
  const char* clamp =
      "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::launch_clamp_scalar(at::"
      "TensorIteratorBase&, c10::Scalar, c10::Scalar, at::native::detail::ClampLimits)::{lambda()#1}::operator()() "
      "const::{lambda()#7}::operator()() const::{lambda(float)#1}, std::array<char*, 2ul> >(int)";
  const char* tanh =
      "void at::native::vectorized_elementwise_kernel<8, at::native::tanh_kernel_cuda(at::TensorIteratorBase&)::"
      "{lambda()#2}::operator()() const::{lambda(c10::BFloat16)#1}, std::array<char*, 2ul> >(int)";
  for (const char* step : {clamp, kAdd, tanh, kAttention, kNorm, "some_kernel_of_mine"}) {
    EXPECT_TRUE(replay({kGemm, step, kGemm}).instances.empty()) << step;
  }
  EXPECT_TRUE(replay({kGemm, kGemm, kGemm}).instances.empty());
  EXPECT_TRUE(replay({kGemm, "triton_poi_fused_gelu_backward_3", kGemm}).instances.empty());
}

const std::vector<std::string>& layer() {
  static const std::vector<std::string> kLayer = {kNorm, kGemm, kSilu, kGemm, kMul, kGemm};
  return kLayer;
}

// The ops of that layer; run or, without kernels, recorded into a graph.
void call_layer(TraceBuilder& b, bool run) {
  const char* bf16 = R"(["c10::BFloat16","c10::BFloat16"])";
  const auto op = [&](const std::string& name, const TraceBuilder::Shapes& dims, const char* kernel) {
    b.open(name, dims, bf16);
    if (run) b.launch(kernel);
    if (!run) b.runtime("cudaLaunchKernel");
    b.close();
  };
  op("aten::rms_norm", {{32, 64}}, kNorm);
  op("aten::mm", {{32, 64}, {64, 256}}, kGemm);
  op("aten::silu", {{32, 256}}, kSilu);
  op("aten::mm", {{32, 64}, {64, 256}}, kGemm);
  op("aten::mul", {{32, 256}, {32, 256}}, kMul);
  op("aten::mm", {{32, 256}, {256, 64}}, kGemm);
}

TEST(MatchKernels, AReplayedGraphWithoutOps) {
  TraceBuilder b;
  for (int step = 0; step < 3; ++step) b.launch_graph(layer());
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 3u);
  for (const Instance& i : found.instances) {
    EXPECT_EQ(i.kind, "swiglu");
    EXPECT_EQ(i.parts.size(), 5u);
    expect_unknown_dims(i);
  }
}

// Shapes come from the ops that the graph was recorded from, or that ran the same kernels before.
TEST(MatchKernels, AReplayedGraphWhoseOpsAreKnown) {
  for (const bool captured : {false, true}) {
    TraceBuilder b;
    if (captured) b.runtime("cudaStreamBeginCapture");
    call_layer(b, !captured);
    if (captured) b.runtime("cudaStreamEndCapture");
    for (int step = 0; step < 2; ++step) b.launch_graph(layer());
    const Matches found = b.match();
    ASSERT_EQ(found.instances.size(), captured ? 2u : 3u);
    for (const Instance& i : found.instances) {
      EXPECT_EQ(i.kind, "swiglu");
      EXPECT_EQ(i.parts.size(), 5u);
      EXPECT_EQ(i.tokens, 32);
      EXPECT_EQ(i.d_hidden, 256);
    }
    EXPECT_LT(found.instances.back().confidence, 0.9);
    EXPECT_TRUE(found.warnings.empty()) << found.warnings.front();
  }
}

TEST(MatchKernels, StreamsAndDevicesApart) {
  TraceBuilder b;
  for (const char* kernel : {kGemm, kGelu, kGemm}) {
    b.on("400", "400", 0, 7).replay(kernel);
    b.on("400", "400", 0, 20).replay(kNorm);
    b.on("400", "400", 1, 7).replay(kernel);
  }
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 2u);
  EXPECT_EQ(found.instances[0].parts.size(), 3u);
  EXPECT_EQ(found.instances[1].parts.size(), 3u);
}

// vLLM and SGLang Triton experts: align, product, activation, product, sum.
TEST(MatchKernels, FusedMoeKernels) {
  const char* align =
      "void vllm::moe::moe_align_block_size_kernel<int>(int const*, int*, int*, int*, int, int, int, "
      "int, unsigned long, int*)";
  const char* sum = "void vllm::moe::moe_sum_kernel<c10::BFloat16, 2>(c10::BFloat16*, c10::BFloat16 const*, int)";
  const Matches found = replay({align, "fused_moe_kernel", kVllmSilu, "fused_moe_kernel", sum});
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "swiglu");
  EXPECT_EQ(found.instances[0].parts.size(), 3u);
  EXPECT_EQ(found.instances[0].experts, std::nullopt);
  expect_unknown_dims(found.instances[0]);
}

// The op's shapes say everything but the activation, which its kernel names.
TEST(MatchKernels, FusedExpertsOp) {
  const auto experts = [](const std::vector<std::string>& kernels) {
    TraceBuilder b;
    b.op("vllm::inplace_fused_experts", {{16, 512}, {8, 2048, 512}, {8, 512, 1024}, {16, 2}, {16, 2}},
         R"(["c10::BFloat16","c10::BFloat16","c10::BFloat16","float","int"])", kernels);
    return b.match();
  };
  const Matches found = experts({"fused_moe_kernel", kVllmSilu, "fused_moe_kernel"});
  ASSERT_EQ(found.instances.size(), 1u);
  const Instance& mlp = found.instances[0];
  EXPECT_EQ(mlp.kind, "swiglu");
  EXPECT_EQ(mlp.tokens, 16);
  EXPECT_EQ(mlp.d_in, 512);
  EXPECT_EQ(mlp.d_hidden, 1024);
  EXPECT_EQ(mlp.d_out, 512);
  EXPECT_EQ(mlp.experts, 8);
  EXPECT_EQ(mlp.top_k, 2);
  EXPECT_EQ(mlp.dtype, "bf16");
  EXPECT_TRUE(experts({"fused_moe_kernel", "some_activation", "fused_moe_kernel"}).instances.empty());
}

TEST(MatchKernels, SiluAndMulOp) {
  TraceBuilder b;
  const char* bf16 = R"(["c10::BFloat16","c10::BFloat16"])";
  b.op("aten::mm", {{4, 64}, {64, 512}}, bf16, {kGemm});
  b.op("_C::silu_and_mul", {{4, 256}, {4, 512}}, bf16, {kVllmSilu});
  b.op("aten::mm", {{4, 256}, {256, 64}}, bf16, {kGemm});
  const Matches found = b.match();
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "swiglu");
  EXPECT_EQ(found.instances[0].d_hidden, 256);
}

TEST(MatchKernels, Rocm) {
  const char* gemm = "Cijk_Alik_Bljk_BBS_BH_Bias_HAS_SAV_UserArgs_MT32x64x128_MI16x16x1_SN_LDSB1_AFC1_AFEM1_AFEM1";
  const Matches found = replay({gemm, kGelu, gemm});
  ASSERT_EQ(found.instances.size(), 1u);
  EXPECT_EQ(found.instances[0].kind, "gelu");
}

}  // namespace
}  // namespace fusedmlp::test
