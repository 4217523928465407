// This library's own kernels, and records that are no compute kernels of any family.
#include "trace/kernel_name_parts.h"

namespace fusedmlp::trace::names {
namespace {

constexpr Known kKnown[] = {
    {"nchwToNhwcKernel", Family::cudnn, Work::copy, "cuDNN: change of layout"},
    {"nhwcToNchwKernel", Family::cudnn, Work::copy, "cuDNN: change of layout"},
    {"cudnn::", Family::cudnn, Work::unknown, "cuDNN kernel"},
    {"cudnn_", Family::cudnn, Work::unknown, "cuDNN kernel"},
    {"cub::", Family::other, Work::unknown, "CUB: sort, scan or reduction"},
    {"at_cuda_detail::cub::", Family::other, Work::unknown, "CUB: sort, scan or reduction"},
    {"thrust::", Family::other, Work::unknown, "Thrust"},
};

}  // namespace

bool own(std::string_view text, Draft& draft) {
  // Kernels of this library are in its namespace, or are its operators' CPU and reference entries.
  if (!text.starts_with("fusedmlp::") && !text.starts_with("fusedmlp_")) return false;
  draft.name.family = Family::fusedmlp;
  draft.name.work = Work::mlp;
  draft.what = "fusedmlp: the whole MLP, or a phase of it";
  draft.name.dtype = first_dtype(text);
  return true;
}

bool others(std::string_view text, Draft& draft) {
  KernelName& name = draft.name;
  if (text.starts_with("ncclDevKernel") || text.starts_with("ncclKernel")) {
    name.family = Family::nccl;
    name.work = Work::unknown;
    draft.what = "NCCL: communication between GPUs";
    return true;
  }
  if (text.starts_with("Memcpy ") || text.starts_with("Memset ") || text.starts_with("CopyDeviceToDevice")) {
    name.family = Family::memory;
    name.work = Work::copy;
    draft.what = text.starts_with("Memset ") ? "memory set" : "memory copy";
    return true;
  }
  return by_word(kKnown, text, draft);
}

}  // namespace fusedmlp::trace::names
