// Names of compilers', libraries' and serving engines' kernels, and names that are not known.
#include <gtest/gtest.h>

#include "kernel_name_signature.h"

namespace {

struct Golden {
  const char* name;
  const char* expected;
};

constexpr Golden kNames[] = {
    // Inductor.
    {"triton_poi_fused__unsafe_view_gelu_mul_0", "inductor elementwise act=gelu ops=_unsafe_view,gelu,mul"},
    {"triton_poi_fused_mul_silu_slice_1", "inductor elementwise act=silu ops=mul,silu,slice"},
    {"triton_poi_fused_add_mul_silu_23", "inductor elementwise act=silu ops=add,mul,silu"},
    {"triton_poi_fused_addmm_relu_2", "inductor elementwise act=relu ops=addmm,relu"},
    {"triton_poi_fused_add_mul_pow_tanh_5", "inductor elementwise act=tanh ops=add,mul,pow,tanh"},
    {"triton_poi_fused_mul_sigmoid_3", "inductor elementwise act=sigmoid ops=mul,sigmoid"},
    {"triton_poi_fused_gelu_backward_mul_7", "inductor elementwise backward act=gelu ops=gelu_backward,mul"},
    {"triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_9", "inductor reduce ops=_to_copy,add,mean,mul,pow,rsqrt"},
    {"triton_per_fused_native_layer_norm_12", "inductor reduce ops=native_layer_norm"},
    {"triton_poi_fused_arange_ge_index_put_lift_fresh_0", "inductor elementwise ops=arange,ge,index_put,lift_fresh"},
    {"triton_mm_58", "inductor-template gemm ops=mm"},
    {"triton_tem_fused_addmm_gelu_0", "inductor-template gemm act=gelu ops=addmm,gelu"},
    {"triton_tem_fused_mm_3", "inductor-template gemm ops=mm"},
    {"triton_tem_fused_flex_attention_0", "inductor attention ops=flex_attention"},
    {"triton__0d1d2d", "inductor unknown"},
    {"triton_poi_0", "inductor elementwise"},
    {"triton_red_fused_div_mm_21", "inductor reduce ops=div,mm"},
    // Liger, vLLM, SGLang, FlashInfer, TensorRT-LLM, triton_kernels.
    {"_geglu_tanh_forward_kernel", "liger elementwise act=gelu_tanh multiplies ops=gelu_tanh,mul"},
    {"_swiglu_forward_kernel", "liger elementwise act=silu multiplies ops=silu,mul"},
    {"_swiglu_backward_kernel", "liger elementwise backward act=silu multiplies ops=silu,mul"},
    {"void vllm::act_and_mul_kernel<c10::BFloat16, &vllm::silu_kernel<c10::BFloat16>, (bool)1>(T1 *, const T1 *, "
     "int)",
     "serving elementwise bf16 act=silu multiplies ops=silu,mul"},
    {"void vllm::act_and_mul_kernel<c10::Half, &(c10::Half vllm::gelu_tanh_kernel<c10::Half>(c10::Half const&)), "
     "true>(c10::Half*, c10::Half const*, int)",
     "serving elementwise fp16 act=gelu_tanh multiplies ops=gelu_tanh,mul"},
    {"void vllm::act_and_mul_kernel<c10::BFloat16, &(c10::BFloat16 vllm::gelu_kernel<c10::BFloat16>(c10::BFloat16 "
     "const&)), true>(c10::BFloat16*, c10::BFloat16 const*, int)",
     "serving elementwise bf16 act=gelu multiplies ops=gelu,mul"},
    {"void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16, &(float silu<float>(float "
     "const&))>(__nv_bfloat16*, __nv_bfloat16 const*, int)",
     "serving elementwise bf16 act=silu multiplies ops=silu,mul"},
    {"void flashinfer::activation::act_and_mul_kernel<__half, &silu<float>>(T1 *, const T1 *, int)",
     "serving elementwise fp16 act=silu multiplies ops=silu,mul"},
    {"void sgl_hip::activation::act_and_mul_kernel<__hip_bfloat16, &gelu_tanh<float>>(T1 *, const T1 *, int)",
     "serving elementwise bf16 act=gelu_tanh multiplies ops=gelu_tanh,mul"},
    {"void vllm::activation_kernel<c10::BFloat16, &(c10::BFloat16 "
     "vllm::gelu_quick_kernel<c10::BFloat16>(c10::BFloat16 const&))>(c10::BFloat16*, c10::BFloat16 const*, int)",
     "serving elementwise bf16 act=quick_gelu ops=quick_gelu"},
    {"void vllm::activation_kernel<c10::Half, &(c10::Half vllm::gelu_new_kernel<c10::Half>(c10::Half "
     "const&))>(c10::Half*, c10::Half const*, int)",
     "serving elementwise fp16 act=gelu_tanh ops=gelu_tanh"},
    {"fused_moe_kernel", "serving moe grouped"},
    {"fused_moe_kernel_gptq_awq", "serving moe grouped"},
    {"_matmul_ogs_NNT_bf16xbf16xmxfp4_32x256x256x1_swiglu",
     "serving moe bf16 32x256x256 nnt grouped act=swiglu_oai multiplies"},
    {"_p_matmul_ogs_NNT_bf16xbf16xbf16_128x256x64x1", "serving moe bf16 128x256x64 nnt grouped"},
    {"void tensorrt_llm::kernels::cutlass_kernels::doActivationKernel<__nv_fp4_e2m1, __nv_bfloat16, __nv_bfloat16, "
     "tensorrt_llm::kernels::cutlass_kernels::GLUAdaptor<cutlass::epilogue::thread::SiLu>, (int)1>(int)",
     "serving elementwise fp4 act=silu multiplies ops=silu,mul"},
    {"void tensorrt_llm::kernels::cutlass_kernels::doActivationKernel<__nv_bfloat16, __nv_bfloat16, float, "
     "tensorrt_llm::kernels::cutlass_kernels::IdentityAdaptor<cutlass::epilogue::thread::GELU>, (int)0>(int)",
     "serving elementwise bf16 act=gelu ops=gelu"},
    {"bmm_E2m1_E2m1E2m1_Fp32_Ab16_Bb16_Cb16_t128x32x512u2_s5_et128x32_m256x32x64_c2x1x1_rM_TN_transOut_schedS_"
     "biasFp32M_bN_tma_tmaSf_rgTma_clmp_swiGlu_dynB_sm100f",
     "serving moe sm100 fp4 128x32x512 s5 c2x1 tn grouped act=silu multiplies"},
    {"bmm_Bfloat16_E2m1E2m1_Fp32_Ab16_Bb16_t128x8x512_s5_et128x8_m128x8x64_c1x1x1_rM_TN_transOut_schPd2x1x2x3_"
     "biasFp32M_bN_rgTma_clmp_dynB_sm100f",
     "serving moe sm100 fp4 128x8x512 s5 c1x1 tn grouped"},
    {"void vllm::moe::topkGatingSoftmax<4, 128, 4, 16, int>(float const*, bool const*, float*, int, int*, int*, int, "
     "int, int)",
     "serving moe fp32"},
    {"void vllm::moe::moe_align_block_size_kernel<int>(int*, int*, int*, int*, int, int, int, unsigned long)",
     "serving moe"},
    {"void marlin_moe_wna16::Marlin<c10::BFloat16, 1125899906843648l, 256, 1, 8, 8>(int)",
     "serving moe bf16 grouped"},
    {"void vllm::rms_norm_kernel<c10::BFloat16>(c10::BFloat16*, c10::BFloat16 const*, c10::BFloat16 const*, float, "
     "int, int)",
     "serving reduce bf16"},
    // QuACK, CuTe DSL, DeepGEMM.
    {"kernel_cutlass_kernel_quackgemm_actGemmGatedSm90_object_at__tensorptrbf16gmemalign16",
     "cute-dsl gemm sm90 bf16 multiplies"},
    {"kernel_cutlass_kernel_quackgemm_default_epiGemmDefaultSm90_object_at__tensorptrbf16gmem",
     "cute-dsl gemm sm90 bf16"},
    {"kernel_cutlass_kernel_quackgemm_dactGemmDGatedSm90_object_at_", "cute-dsl gemm sm90 backward multiplies"},
    {"kernel_cutlass_kernel_flashinfernormkernelsrmsnormRMSNormKernel_object_at__tensorptrbf16gmemalign128",
     "cute-dsl reduce bf16"},
    {"void deep_gemm::sm90_bf16_gemm_impl<(cute::UMMA::Major)0, (cute::UMMA::Major)0, 0u, 10240u, 8192u, 1u, 128u, "
     "128u, 64u, (deep_gemm::GemmType)0, false>(int*, unsigned int)",
     "deep-gemm gemm sm90 bf16"},
    {"void deep_gemm::sm100_fp8_gemm_1d1d_impl<(cute::UMMA::Major)0, (cute::UMMA::Major)0, (unsigned int)128, "
     "deep_gemm::GemmType::MGroupedContiguous>(int)",
     "deep-gemm gemm sm100 fp8 grouped"},
    // Attention.
    {"cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_cga1x1x1_kernel0_0",
     "cudnn attention sm90 64x128x128"},
    {"void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, "
     "cutlass::bfloat16_t, pytorch_flash::Flash_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t> >, false, false, "
     "false, false, false, true, false>(pytorch_flash::Flash_fwd_params)",
     "attention attention bf16"},
    {"void flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<128, 64, 128, 8, 2, 4, 2, false, "
     "false, cutlass::bfloat16_t> >(Flash_bwd_params)",
     "attention attention bf16 backward"},
    {"void "
     "cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2, "
     "cute::tuple<cute::C<1>, cute::C<1>, cute::C<1> >, cute::tuple<cute::C<128>, cute::C<176>, cute::C<128> >, 128, "
     "cutlass::bfloat16_t, float, cutlass::arch::Sm90> > > >(int)",
     "attention attention bf16"},
    {"fmha_cutlassF_f32_aligned_64x64_rf_sm80", "attention attention fp32"},
    {"fmhaSm100fKernel_QkvE4m3OBfloat16H128PagedKvCausalP16VarSeqQ16Kv128", "attention attention"},
    {"attn_fwd", "attention attention"},
    // Others.
    {"ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "nccl unknown"},
    {"Memcpy DtoD (Device -> Device)", "memory copy"},
    {"Memset (Device)", "memory copy"},
    {"void cudnn::engines_precompiled::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float, false, true, "
     "(cudnnKernelDataType_t)0>(cudnn::engines_precompiled::nchw2nhwc_params_t<float>, __nv_bfloat16 const*, "
     "__nv_bfloat16*)",
     "cudnn copy"},
    {"void fusedmlp::sm90::prefill<__nv_bfloat16, true>(fusedmlp::sm90::Params)", "fusedmlp mlp bf16"},
    {"igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt64x64x16_wt16x16x4_ws1x1_wr2x2_ta1x1x4x1_1x16x1x16_tb1x1x4x1_1x16x1x16_me",
     "other unknown"},
    // Unknown.
    {"my_kernel", "unknown unknown"},
    {"kernel", "unknown unknown"},
    {"gelu_kernel", "unknown unknown"},
    {"relu", "unknown unknown"},
    {"void (anonymous namespace)::my_silu<float>(float*)", "unknown unknown"},
    {"_ZNotamangledname", "unknown unknown"},
    {"matmul_kernel", "unknown unknown"},
};

TEST(KernelNameEngines, AsTheNamesSay) {
  for (const Golden& golden : kNames) {
    EXPECT_EQ(signature(fusedmlp::trace::decode(golden.name)), golden.expected) << golden.name;
  }
}

}  // namespace
