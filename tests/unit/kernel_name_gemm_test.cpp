// Names of matrix products. Each is from a profiler trace or a public profile, named above its group; the
// expectations are read off the grammars in the decoder's sources by hand.
#include <gtest/gtest.h>

#include "kernel_name_signature.h"

namespace {

struct Golden {
  const char* name;
  const char* expected;
};

constexpr Golden kNames[] = {
    // H200 traces of GeGLU, BERT, GPT-2 and Llama MLPs.
    {"nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_TNT", "nvjet gemm sm90 bf16 256x128x64 s4 c1x2 tnt cooperative"},
    {"nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT",
     "nvjet gemm sm90 bf16 256x128x64 s4 c1x2 tnt cooperative bias"},
    {"nvjet_sm90_tst_128x256_64x4_2x1_v_bz_coopA_NTN", "nvjet gemm sm90 bf16 128x256x64 s4 c2x1 ntn cooperative"},
    {"nvjet_sm90_tst_192x128_64x5_1x2_h_bz_coopB_bias_NNT",
     "nvjet gemm sm90 bf16 192x128x64 s5 c1x2 nnt cooperative bias"},
    {"nvjet_sm90_tst_64x8_64x16_4x1_v_bz_splitK_bias_TNT", "nvjet gemm sm90 bf16 64x8x64 s16 c4x1 tnt splitk bias"},
    {"nvjet_sm90_tst_64x8_64x16_1x2_h_bz_bias_TNT", "nvjet gemm sm90 bf16 64x8x64 s16 c1x2 tnt bias"},
    {"nvjet_sm90_tst_176x128_64x5_1x2_h_bz_TNN", "nvjet gemm sm90 bf16 176x128x64 s5 c1x2 tnn"},
    {"nvjet_sm90_tst_96x64_64x8_1x2_h_bz_bias_NNN", "nvjet gemm sm90 bf16 96x64x64 s8 c1x2 nnn bias"},
    // Older cuBLAS, without the architecture (public vLLM and PyTorch profiles).
    {"nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT", "nvjet gemm fp16 256x128x64 s4 c1x2 nnt cooperative"},
    {"nvjet_hsh_32x64_64x16_4x1_v_bz_splitK_TNN", "nvjet gemm fp16 32x64x64 s16 c4x1 tnn splitk"},
    {"nvjet_hss_64x8_64x16_1x1_v_bz_splitK_NNT", "nvjet gemm fp16 64x8x64 s16 c1x1 nnt splitk"},
    {"nvjet_tst_64x8_64x16_4x1_v_bz_TNT", "nvjet gemm bf16 64x8x64 s16 c4x1 tnt"},
    {"nvjet_tss_64x8_64x16_2x1_v_bz_splitK_TNT", "nvjet gemm bf16 64x8x64 s16 c2x1 tnt splitk"},
    {"nvjet_qqtst_128x160_128x5_1x2_h_bz_TNT", "nvjet gemm fp8 128x160x128 s5 c1x2 tnt"},
    {"nvjet_tst_64x32_64x16_2x2_2cta_h_bz_splitK_TNT", "nvjet gemm bf16 64x32x64 s16 c2x2 tnt splitk"},
    {"nvjet_tst_256x96_64x5_2x1_2cta_v_badd_NNT", "nvjet gemm bf16 256x96x64 s5 c2x1 nnt"},
    {"nvjet_qqtst_112x128_128x7_2x1_v_bz_coopA_algo2_TNN", "nvjet gemm fp8 112x128x128 s7 c2x1 tnn cooperative"},
    // Blackwell.
    {"nvjet_sm100_tst_128x256_64x6_2x1_2cta_v_bz_TNT", "nvjet gemm sm100 bf16 128x256x64 s6 c2x1 tnt"},
    {"nvjet_sm100_tst_32x64_64x16_4x1_v_bz_splitK_bias_TNN",
     "nvjet gemm sm100 bf16 32x64x64 s16 c4x1 tnn splitk bias"},
    {"nvjet_sm103_tst_64x8_64x16_2x1_v_bz_splitK_TNT", "nvjet gemm sm103 bf16 64x8x64 s16 c2x1 tnt splitk"},
    {"nvjet_sm100_oohsh_128x256_256x5_2x2_2cta_h_bz_Avec16UE4M3_Bvec16UE4M3_TNT",
     "nvjet gemm sm100 fp4 128x256x256 s5 c2x2 tnt"},
    {"nvjet_sm90_qqtst_128x128_128x6_1x2_h_bz_ovscale_bias_TNT", "nvjet gemm sm90 fp8 128x128x128 s6 c1x2 tnt bias"},
    // Cut short by a table.
    {"nvjet_sm90_tst_256x128", "nvjet gemm sm90 bf16 256x128"},
    {"nvjet_", "unknown unknown"},
    // Legacy cuBLAS.
    {"ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", "cublas gemm sm80 bf16 128x256x64 s3 tn"},
    {"ampere_fp16_s16816gemm_fp16_64x64_ldg8_f2f_stages_64x6_tn", "cublas gemm sm80 fp16 64x64x64 s6 tn"},
    {"ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_32x6_nn", "cublas gemm sm80 fp16 128x64x32 s6 nn"},
    {"ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_relu_f2f_stages_64x5_tn",
     "cublas gemm sm80 fp16 64x64x64 s5 tn"},
    {"ampere_bf16_s16816gemm_bf16_64x64_sliced1x2_ldg8_relu_f2f_stages_64x5_tn",
     "cublas gemm sm80 bf16 64x64x64 s5 tn"},
    {"ampere_h16816gemm_128x64_ldg8_stages_64x3_tn", "cublas gemm sm80 fp16 128x64x64 s3 tn"},
    {"ampere_sgemm_32x32_sliced1x4_tn", "cublas gemm sm80 fp32 32x32 tn"},
    {"ampere_sgemm_128x64_tn", "cublas gemm sm80 fp32 128x64 tn"},
    {"volta_sgemm_32x32_sliced1x4_tn", "cublas gemm sm70 fp32 32x32 tn"},
    {"volta_fp16_s884gemm_fp16_256x128_ldg8_f2f_nn", "cublas gemm sm70 fp16 256x128 nn"},
    {"turing_fp16_s1688gemm_fp16_256x128_ldg8_f2f_stages_32x1_tn", "cublas gemm sm75 fp16 256x128x32 s1 tn"},
    {"turing_fp16_s1688gemm_fp16_128x64_sliced1x2_ldg8_f2f_tn", "cublas gemm sm75 fp16 128x64 tn"},
    {"maxwell_fp16_sgemm_fp16_32x128_nt", "cublas gemm sm50 fp16 32x128 nt"},
    {"trt_ampere_h16816gemm_128x64_ldg8_nn_v1", "cublas gemm sm80 fp16 128x64 nn"},
    {"volta_sgemm", "cublas gemm sm70 fp32"},
    // Xmma.
    {"sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__"
     "5x_cublas",
     "xmma gemm sm90 bf16 128x128x64 tn"},
    {"sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_"
     "cublas",
     "xmma gemm sm90 fp16 128x128x64 tn"},
    {"sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize32x32x64_stage6_warpsize2x2x1_tensor16x8x16_execute_kernel__5x_"
     "cublas",
     "xmma gemm sm80 fp16 32x32x64 s6 tn"},
    {"sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8_stage3_warpsize1x2x1_ffma_aligna4_alignc4_execute_kernel_"
     "_5x_cublas",
     "xmma gemm sm80 fp32 32x32x8 s3 tn"},
    {"sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_stage3_warpsize2x2x1_tensor16x8x8_kernel",
     "xmma gemm sm80 tf32 128x128x32 s3 tn"},
    {"sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x64x64_stage4_warpsize2x2x1_tensor16x8x32_algo2_execute_"
     "kernel__5x_cublas",
     "xmma gemm sm89 fp8 128x64x64 s4 tn"},
    {"sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n_tilesize64x64x64_stage4_warpsize2x2x1_tensor16x8x32_bias_f32_execute_"
     "kernel_trt",
     "xmma gemm sm89 fp8 64x64x64 s4 tn"},
    // Split-K and GEMV.
    {"void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, __nv_bfloat16, false, float, "
     "__nv_bfloat16, __nv_bfloat16, true, true, false, false>(cublasLt::cublasSplitKParams<float>, float const*, "
     "__nv_bfloat16 const*, float*, __nv_bfloat16*, float const*, float const*, __nv_bfloat16 const*, float const*, "
     "__nv_bfloat16*, void*, long, float*, int*, float*, float*, float const*, float const*, float const*, float "
     "const*, float const*)",
     "splitk-reduce splitk-reduce bf16 splitk"},
    {"void cublasLt::splitKreduce_kernel<32, 16, int, float, float, float, float, false, float, float, float, true, "
     "false, false>(cublasLt::cublasSplitKParams<float>)",
     "splitk-reduce splitk-reduce fp32 splitk"},
    {"void gemv2T_kernel_val<int, int, __half, __half, __half, float, 128, 16, 2, 4, false, false, "
     "cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<__half const>, cublasGemvTensorStridedBatched<__half "
     "const>, cublasGemvTensorStridedBatched<__half>, float> >(cublasGemvParamsEx<int, "
     "cublasGemvTensorStridedBatched<__half const>, cublasGemvTensorStridedBatched<__half const>, "
     "cublasGemvTensorStridedBatched<__half>, float>, float, float)",
     "gemv gemv fp16"},
    {"_Z17gemv2T_kernel_"
     "valIiiffffLi128ELi16ELi4ELi4ELb0ELb1E18cublasGemvParamsExIi30cublasGemvTensorStridedBatchedIKfES3_S1_"
     "IfEfEEvT11_T4_S7_",
     "gemv gemv fp32"},
    {"void gemvNSP_kernel<float, float, float, float, 1, 32, 4, 1024, false, cublasGemvParamsEx<int, "
     "cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float const>, "
     "cublasGemvTensorStridedBatched<float>, float> >(cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<float "
     "const>, cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float>, float>)",
     "gemv gemv fp32"},
    {"std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16, __nv_bfloat16, "
     "__nv_bfloat16, float, false, true, true, false, 7, false, cublasGemvParamsEx<int, "
     "cublasGemvTensorStridedBatched<__nv_bfloat16 const>, cublasGemvTensorStridedBatched<__nv_bfloat16 const>, "
     "cublasGemvTensorStridedBatched<__nv_bfloat16>, float> >(cublasGemvParamsEx<int, "
     "cublasGemvTensorStridedBatched<__nv_bfloat16 const>, cublasGemvTensorStridedBatched<__nv_bfloat16 const>, "
     "cublasGemvTensorStridedBatched<__nv_bfloat16>, float>)",
     "gemv gemv bf16"},
    {"void gemmk1_kernel<int, float, 256, 5, true, false, false, false, cublasGemvTensorStridedBatched<float const>, "
     "cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float>, float, "
     "0>(cublasGemmk1Params<float>)",
     "gemv gemv fp32"},
    {"void gemmSN_TN_kernel<float, 128, 16, 2, 4, 4, 4, true, cublasGemvTensorStridedBatched<float const>, "
     "cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float> "
     ">(cublasGemmSmallNParams<float>)",
     "cublas gemm fp32 tn"},
    {"void dot_kernel<float, 128, 0, cublasDotParams<cublasGemvTensorStridedBatched<__nv_bfloat16 const>, "
     "cublasGemvTensorStridedBatched<float> > >(cublasDotParams<cublasGemvTensorStridedBatched<__nv_bfloat16 const>, "
     "cublasGemvTensorStridedBatched<float> >)",
     "gemv gemv bf16"},
    {"void reduce_1Block_kernel<float, 128, 7, cublasGemvTensorStridedBatched<float>, "
     "cublasGemvTensorStridedBatched<float> >(float const*, float, cublasGemvTensorStridedBatched<float>, int, float "
     "const*, float, cublasGemvTensorStridedBatched<float>, cublasPointerMode_t)",
     "gemv splitk-reduce fp32"},
    {"void dot_kernel<float>(float const*, float const*)", "unknown unknown"},
    // CUTLASS 2.
    {"void "
     "cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8>(cutlass_80_tensorop_bf16_"
     "s16816gemm_relu_bf16_128x64_64x6_tn_align8::Params)",
     "cutlass2 gemm sm80 bf16 128x64x64 s6 tn"},
    {"void "
     "cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_256x128_64x3_tn_align2>(cutlass_80_tensorop_bf16_"
     "s16816gemm_bf16_256x128_64x3_tn_align2::Params)",
     "cutlass2 gemm sm80 bf16 256x128x64 s3 tn"},
    {"void "
     "cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_128x2_tn_align8>(cutlass_80_wmma_"
     "tensorop_bf16_s161616gemm_bf16_32x32_128x2_tn_align8::Params)",
     "cutlass2 gemm sm80 bf16 32x32x128 s2 tn"},
    {"cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_32x1_tn_align8", "cutlass2 gemm sm80 bf16 32x32x32 s1 tn"},
    {"void "
     "cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_128x128_nn_align1>(cutlass_75_tensorop_bf16_s1688gemm_"
     "bf16_128x128_nn_align1::Params)",
     "cutlass2 gemm sm75 bf16 128x128 nn"},
    {"void "
     "cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(cutlass_80_simt_sgemm_128x32_8x5_nn_align1::"
     "Params)",
     "cutlass2 gemm sm80 fp32 128x32x8 s5 nn"},
    {"void "
     "cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_256x128_16x3_nn_align4>(cutlass_80_tensorop_s1688gemm_256x128_"
     "16x3_nn_align4::Params)",
     "cutlass2 gemm sm80 tf32 256x128x16 s3 nn"},
    {"_ZN7cutlass7Kernel2I50cutlass_80_tensorop_s1688gemm_64x64_16x6_tn_align4EEvNT_6ParamsE",
     "cutlass2 gemm sm80 tf32 64x64x16 s6 tn"},
    {"void "
     "cutlass::Kernel2<cutlass_75_tensorop_f16_s1688gemm_f16_256x128_nn_align1>(cutlass_75_tensorop_f16_s1688gemm_"
     "f16_256x128_nn_align1::Params)",
     "cutlass2 gemm sm75 fp16 256x128 nn"},
    {"cutlass_70_tensorop_f16_s884gemm_f16_128x128_nn_align1", "cutlass2 gemm sm70 fp16 128x128 nn"},
    {"cutlass_tensorop_bf16_s16816gemm_grouped_bf16_128x128_32x4_nn_align8",
     "cutlass2 gemm bf16 128x128x32 s4 nn grouped"},
    {"void "
     "cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_256x64_32x4_nhwc_align8>(cutlass_"
     "tensorop_bf16_s16816fprop_optimized_bf16_256x64_32x4_nhwc_align8::Params)",
     "cutlass2 unknown bf16 256x64x32 s4"},
    {"void "
     "cutlass::Kernel<cutlass::gemm::kernel::GemmGrouped<cutlass::gemm::threadblock::MmaMultistage<cutlass::gemm::"
     "GemmShape<128, 128, 32>, cutlass::bfloat16_t>, int> >(cutlass::gemm::kernel::GemmGrouped<int>::Params)",
     "cutlass2 gemm bf16 grouped"},
    // CUTLASS 3.
    {"cutlass3x_sm90_tensorop_gemm_f16_f16_f32_f16_f32_128x128x64_2x1x1_0_ntn_align8",
     "cutlass3 gemm sm90 fp16 128x128x64 c2x1 ntn"},
    {"cutlass3x_sm90_tensorop_gemm_bf16_bf16_f32_bf16_bf16_128x128x64_2x1x1_0_tnt_align8_warpspecialized_cooperative_"
     "epi_tma",
     "cutlass3 gemm sm90 bf16 128x128x64 c2x1 tnt cooperative"},
    {"cutlass3x_sm90_tensorop_s64x256x16gemm_f16_f16_f32_void_f16_128x256x64_2x1x1_0_tnn_align8_warpspecialized_"
     "cooperative_epi_tma",
     "cutlass3 gemm sm90 fp16 128x256x64 c2x1 tnn cooperative"},
    {"void "
     "cutlass::device_kernel<cutlass3x_sm90_tensorop_s64x128x16gemm_bf16_bf16_f32_bf16_bf16_128x128x64_2x1x1_0_ntn_"
     "align8_warpspecialized_pingpong_epi_tma>(cutlass3x_sm90_tensorop_s64x128x16gemm_bf16_bf16_f32_bf16_bf16_"
     "128x128x64_2x1x1_0_ntn_align8_warpspecialized_pingpong_epi_tma::Params)",
     "cutlass3 gemm sm90 bf16 128x128x64 c2x1 ntn pingpong"},
    {"cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_128x128x16_1x1x1_3_tnn_align1_bias_f32_relu",
     "cutlass3 gemm sm100 fp32 128x128x16 s3 c1x1 tnn"},
    {"cutlass3x_sm90_tensorop_s64x128x16gemm_bf16", "cutlass3 gemm sm90 bf16"},
    {"_ZN7cutlass13device_kernelINS_4gemm6kernel13GemmUniversalINS1_17GroupProblemShapeIN4cute5tupleIJiiiEEEEENS1_"
     "10collective13CollectiveMmaINS1_51MainloopSm100ArrayTmaUmmaWarpSpecializedBlockScaledILi9ELi8ELi2E",
     "cutlass3 gemm sm100 warp-specialized grouped"},
    {"void "
     "cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<cute::tuple<long, "
     "long, long> >, "
     "cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90ArrayTmaGmmaWarpSpecialized<12, "
     "cute::tuple<cute::C<1>, cute::C<2>, cute::C<1> >, cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperative>, "
     "cute::tuple<cute::C<128>, cute::C<64>, cute::C<64> >, cutlass::bfloat16_t, cute::tuple<long, cute::C<1>, "
     "cute::C<0> >*, cutlass::bfloat16_t> > >(int)",
     "cutlass3 gemm sm90 bf16 128x64x64 s12 c1x2 cooperative grouped"},
    {"void "
     "cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel::GemmUniversal<cute::"
     "tuple<int, int, int, int>, "
     "cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<(int)5, "
     "cute::tuple<cute::C<(int)2>, cute::C<(int)1>, cute::C<(int)1>>, "
     "cutlass::gemm::KernelTmaWarpSpecializedPingpong>, cute::tuple<cute::C<(int)64>, cute::C<(int)128>, "
     "cute::C<(int)128>>, cutlass::float_e4m3_t>",
     "cutlass3 gemm sm90 fp8 64x128x128 s5 c2x1 pingpong"},
    {"_ZN7cutlass13device_kernelIN49_GLOBAL__N__8bf0e19b_16_scaled_mm_c3x_cu_2bec3df915cutlass_3x_gemmIaNS_6half_"
     "tENS1_14ScaledEpilogueEN4cute5tupleIJNS5_1CILi64EEENS7_ILi128EEES9_EEENS6_IJNS7_ILi2EEENS7_ILi1EEESC_EEENS_"
     "4gemm32KernelTmaWarpSpecializedPingpongENS_8epilogue18TmaWarpSpecializedEE10GemmKernelEEEvNT_6ParamsE",
     "cutlass3 gemm pingpong"},
    // AMD.
    {"Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT64x32x128_MI16x16x1_SN_LDSB1_GSUAMB_ISA942_IU1",
     "tensile gemm bf16 64x32x128 tn"},
    {"Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT128x144x64_MI16x16x1_SN_LDSB1_ISA942",
     "tensile gemm bf16 128x144x64 tn"},
    {"Cijk_Ailk_Bljk_HHS_BH_Bias_HA_S_SAV_UserArgs_MT96x128x64_MI16x16x1", "tensile gemm fp16 96x128x64 nn"},
    {"Cijk_Ailk_Bljk_HHS_BH_MT128x128x16_MI16x16x16x1_SN_1LDSB0_GSU4", "tensile gemm fp16 128x128x16 nn splitk"},
    {"Cijk_Alik_Bljk_SB_MT64x128x16_SN_1LDSB0_APM1", "tensile gemm fp32 64x128x16 tn"},
    {"Cijk_Ailk_Bjlk_BBS_BH_MT64x16x64_SE", "tensile gemm bf16 64x16x64 nt"},
    {"Custom_Cijk_Ailk_Bljk_HHS_BH_Bias_GG_AS_SAV_UserArgs_shortname0_gfx942", "tensile gemm fp16 nn grouped"},
    {"_ZN5aiter50fmoe_bf16_blockscaleFp8_g1u1_vs_silu_1tg_ps_32x256E",
     "serving moe bf16 32x256 grouped act=silu multiplies"},
    {"fmoe_bf16_pertokenFp8_g1u1_vs_gelu_1tg_32x128", "serving moe bf16 32x128 grouped act=gelu multiplies"},
};

TEST(KernelNameGemm, AsTheNamesSay) {
  for (const Golden& golden : kNames) {
    EXPECT_EQ(signature(fusedmlp::trace::decode(golden.name)), golden.expected) << golden.name;
  }
}

}  // namespace
