// Attention: flash kernels of PyTorch, FlashAttention, FlashInfer and TensorRT-LLM, cuDNN's, CUTLASS' and AMD's.
//
// Sources: H100 and H200 traces (pytorch_flash, cudnn_generated_...), Dao-AILab/flash-attention, public profiles.
#include "core/format.h"
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

constexpr Known kKinds[] = {
    {"flash_fwd_splitkv_combine_kernel", Family::flash, Work::attention,
     "FlashAttention 2, sum over parts of the keys"},
    {"flash_fwd_splitkv_kernel", Family::flash, Work::attention, "FlashAttention 2, keys in parts"},
    {"flash_fwd_kernel", Family::flash, Work::attention, "FlashAttention 2"},
    {"flash_bwd_", Family::flash, Work::attention, "FlashAttention 2"},
    {"FlashAttnFwdCombine", Family::flash, Work::attention, "FlashAttention 3, sum over parts of the keys"},
    {"FlashAttnFwd", Family::flash, Work::attention, "FlashAttention 3"},
    {"FlashAttnBwd", Family::flash, Work::attention, "FlashAttention 3"},
    {"fmha_cutlassF_", Family::flash, Work::attention, "memory-efficient attention (CUTLASS)"},
    {"fmha_cutlassB_", Family::flash, Work::attention, "memory-efficient attention (CUTLASS)"},
    {"fmhaSm", Family::flash, Work::attention, "TensorRT-LLM attention"},
    {"fmha_v2_", Family::flash, Work::attention, "TensorRT attention"},
    {"BatchDecodeWithPagedKVCacheKernel", Family::flash, Work::attention, "FlashInfer attention of decode"},
    {"BatchPrefillWith", Family::flash, Work::attention, "FlashInfer attention of prefill"},
    {"SinglePrefillWithKVCacheKernel", Family::flash, Work::attention, "FlashInfer attention of prefill"},
    {"paged_attention_", Family::flash, Work::attention, "vLLM paged attention"},
    {"kernel_unified_attention_", Family::flash, Work::attention, "vLLM attention (Triton)"},
    {"FmhaFwdKernel", Family::flash, Work::attention, "AMD Composable Kernel attention"},
    {"FmhaBwd", Family::flash, Work::attention, "AMD Composable Kernel attention"},
};

}  // namespace

bool attention(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  if (text.starts_with("cudnn_") && (contains(text, "sdpa") || contains(text, "flash"))) {
    name.family = Family::cudnn;
    draft.what = "cuDNN attention";
    for (const std::string_view token : split(text, '_')) {
      std::string_view tail = token;
      int tile[3];
      if (!name.sm && take(tail, "sm") && number(tail)) name.sm = number(tail);
      // f16 is cuDNN's word for both 16-bit types: bf16 inputs run kernels of this name (H200 traces).
      if (!name.dtype && token != "f16") name.dtype = dtype_of(token);
      if (!name.tile_m && dims(token, 3, tile)) set_tile(name, tile[0], tile[1], tile[2]);
    }
    name.backward = contains(text, "bprop");
  } else if (text == "attn_fwd" || text == "_attn_fwd") {
    name.family = Family::flash;
    draft.what = "attention (AOTriton or Triton)";
  } else {
    if (!by_word(kKinds, text, draft)) return false;
    name.dtype = first_dtype(text);
    if (!name.dtype) {
      for (const std::string_view token : split(text, '_')) {
        if (!name.dtype) name.dtype = dtype_of(token);
      }
    }
    name.backward = contains(text, "bwd") || contains(text, "Bwd") || contains(text, "cutlassB_");
  }
  name.work = Work::attention;
  if (name.backward) draft.what += ", gradient";
  return true;
}

}  // namespace fusedmlp::trace::names
