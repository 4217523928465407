// Properties of the decoder: sentences, traps, and names that are no names.
#include "trace/kernel_name.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace fusedmlp::trace {
namespace {

TEST(KernelName, WordsOfACublasProduct) {
  EXPECT_EQ(decode("nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT").words,
            "cuBLAS matrix product (nvjet): bf16, tile 256x128x64, 4 stages, cluster 1x2, layout tnt, cooperative, "
            "adds the bias, written for sm_90, raster h");
}

TEST(KernelName, WordsQuoteWhatIsNotInterpreted) {
  EXPECT_EQ(decode("nvjet_tst_256x96_64x5_2x1_2cta_v_badd_NNT").words,
            "cuBLAS matrix product (nvjet): bf16, tile 256x96x64, 5 stages, cluster 2x1, layout nnt, two CTAs share "
            "a product, raster v, not interpreted: badd");
}

// cuBLAS runs this kernel under aten::addmm with no ReLU anywhere in the model (H100 traces of BERT and ViT).
TEST(KernelName, ReluInTheNameOfAProductIsACapability) {
  const KernelName name = decode(
      "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8>"
      "(cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8::Params)");
  EXPECT_FALSE(name.activation);
  EXPECT_NE(name.words.find("its epilogue can do relu: no proof that it did"), std::string::npos) << name.words;
}

TEST(KernelName, BiasInTheNameOfAGeneratedProductIsACapability) {
  const KernelName name =
      decode("cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_64x32x16_1x1x1_3_tnn_align1_bias_f32_relu");
  EXPECT_FALSE(name.fused_bias);
  EXPECT_FALSE(name.activation);
  EXPECT_FALSE(decode("Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT64x32x128_MI16x16x1").fused_bias);
}

TEST(KernelName, ClampIsNoProofOfRelu) {
  const KernelName name = decode(
      "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::launch_clamp_scalar("
      "at::TensorIteratorBase&, c10::Scalar, c10::Scalar, at::native::detail::ClampLimits)::{lambda()#1}::"
      "operator()() const::{lambda()#7}::operator()() const::{lambda(float)#1}, std::array<char*, 2ul> >(int)");
  EXPECT_FALSE(name.activation);
  EXPECT_EQ(name.ops, std::vector<std::string>{"clamp"});
}

// A table that cuts names off must not turn the erf form into the tanh form or back.
TEST(KernelName, GeluWithoutItsLambdaSaysThatTheFormIsUnknown) {
  const KernelName name = decode(
      "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&, "
      "at::native::GeluType)");
  EXPECT_EQ(name.activation, "gelu");
  EXPECT_NE(name.words.find("form not in the name"), std::string::npos) << name.words;
}

TEST(KernelName, UnknownHasNoWords) {
  for (const char* text : {"", "void", "my_kernel", "gemm", "relu", "dot_kernel", "_Z", "_ZN7cutlass", "nvjet_",
                           "triton_", "Cijk", "kernel", "void (anonymous namespace)::gelu<float>(float*)"}) {
    const KernelName name = decode(text);
    EXPECT_EQ(name.family, Family::unknown) << text;
    EXPECT_EQ(name.words, "") << text;
    EXPECT_FALSE(name.dtype) << text;
  }
}

TEST(KernelName, EveryKnownNameHasWords) {
  for (const char* text : {"attn_fwd", "Memset (Device)", "triton__0d1d2d", "fused_moe_kernel", "volta_sgemm",
                           "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(int)"}) {
    const KernelName name = decode(text);
    EXPECT_NE(name.family, Family::unknown) << text;
    EXPECT_FALSE(name.words.empty()) << text;
  }
}

TEST(KernelName, CutNamesAreReadAsFarAsTheyGo) {
  const std::string whole =
      "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>, "
      "cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<5, "
      "cute::tuple<cute::C<2>, cute::C<1>, cute::C<1> >, cutlass::gemm::KernelTmaWarpSpecializedPingpong>, "
      "cute::tuple<cute::C<64>, cute::C<128>, cute::C<64> >, cutlass::bfloat16_t> > >(int)";
  EXPECT_EQ(decode(whole).tile_k, 64);
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const KernelName name = decode(whole.substr(0, length));
    EXPECT_EQ(name.tile_m.value_or(64), 64) << length;
    EXPECT_EQ(name.stages.value_or(5), 5) << length;
    EXPECT_EQ(name.dtype.value_or("bf16"), "bf16") << length;
  }
}

// Random bytes, and known names with bytes changed: no crash, no exception (sanitizers watch the rest).
TEST(KernelName, AnyBytes) {
  std::mt19937 random(1);
  const std::string seeds[] = {
      "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT",
      "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8_stage3_warpsize1x2x1_ffma",
      "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl()",
      "_ZN7cutlass7Kernel2I50cutlass_80_tensorop_s1688gemm_64x64_16x6_tn_align4EEvNT_6ParamsE",
      "Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT64x32x128_MI16x16x1_GSU4_ISA942",
      "triton_poi_fused__unsafe_view_gelu_mul_0",
      "bmm_E2m1_E2m1E2m1_Fp32_t128x32x512u2_s5_c2x1x1_rM_TN_swiGlu_dynB_sm100f",
      "void cutlass::device_kernel<GemmUniversal<MainloopSm90<5, cute::tuple<C<2>"};
  for (int round = 0; round < (FUSEDMLP_SANITIZED ? 5000 : 50000); ++round) {
    std::string text = seeds[random() % std::size(seeds)];
    if (round % 4 == 0) text.assign(random() % 200, '\0');
    for (unsigned change = 0; change < 1 + random() % 6 && !text.empty(); ++change) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    EXPECT_NO_THROW(decode(text));
  }
  EXPECT_NO_THROW(decode(std::string(1 << 20, '<')));
  EXPECT_NO_THROW(decode(std::string(1 << 20, '_')));
}

TEST(KernelName, NumbersThatOverflowAreNoNumbers) {
  EXPECT_FALSE(decode("nvjet_sm90_tst_99999999999x128_64x4_1x2_h_bz_TNT").tile_m == 99999999);
  EXPECT_FALSE(decode("ampere_sgemm_4294967297x64_tn").tile_m);
}

}  // namespace
}  // namespace fusedmlp::trace
