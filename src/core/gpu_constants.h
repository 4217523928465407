// Rates of each known GPU, and what a fused MLP reaches of the limit: the GPU cost model's only source for them.
#pragma once

#include <cstdint>
#include <string_view>

namespace fusedmlp::core {

struct GpuConstants {
  std::string_view name;      // as printed, and what a target may be called
  std::string_view words;     // all of them are in the driver's name, as words, lower case
  std::string_view unlike;    // none of them is: other models of that name
  int sm;                     // compute capability x 10; 0: no NVIDIA GPU
  int sms;                    // SMs, compute units on AMD
  double tflops[4];           // peak, dense (no sparsity), fp32 sums: bf16, fp16, tf32, fp32
  double bandwidth;           // peak, GB/s
  double measured_tflops;     // bf16 product of 8192 x 8192 x 8192 (torch 2.11, CUDA 13.0); 0: not measured
  double measured_bandwidth;  // GB/s of one kernel that streams up to 1.4 GB of cold memory; 0: not measured
  std::string_view source;
};

// Data sheets give tensor rates with sparsity where this table halves them. The first row whose words fit counts, so
// special models stand before the plain name, which is what a bare "A100" or "H100" means. Without tensor units for
// a type (bf16 on T4 and V100, tf32 there) products run on the fp32 units.
inline constexpr GpuConstants kGpus[] = {
    {"A100 PCIe 40GB", "a100 pcie 40gb", "", 80, 108, {312, 312, 156, 19.5}, 1555, 0, 0, "NVIDIA A100 data sheet"},
    {"A100 PCIe 80GB", "a100 pcie", "", 80, 108, {312, 312, 156, 19.5}, 1935, 0, 0, "NVIDIA A100 data sheet"},
    {"A100 SXM 40GB", "a100 40gb", "", 80, 108, {312, 312, 156, 19.5}, 1555, 0, 0, "NVIDIA A100 data sheet"},
    {"A100 SXM 80GB", "a100", "", 80, 108, {312, 312, 156, 19.5}, 2039, 0, 0, "NVIDIA A100 data sheet"},
    {"H100 PCIe", "h100 pcie", "", 90, 114, {756, 756, 378, 51}, 2000, 0, 0, "NVIDIA H100 data sheet"},
    {"H100 NVL", "h100 nvl", "", 90, 132, {835, 835, 417, 60}, 3900, 0, 0, "NVIDIA H100 data sheet"},
    {"H100 SXM", "h100", "64gb 96gb", 90, 132, {989, 989, 494, 67}, 3350, 0, 0, "NVIDIA H100 data sheet"},
    {"H200 NVL", "h200 nvl", "", 90, 132, {835, 835, 417, 60}, 4800, 0, 0, "NVIDIA H200 data sheet"},
    {"H200", "h200", "", 90, 132, {989, 989, 494, 67}, 4800, 797, 4540, "NVIDIA H200 data sheet, and measurements"},
    {"B200", "b200", "", 100, 148, {2250, 2250, 1125, 75}, 7700, 0, 0, "NVIDIA HGX B200 data sheet"},
    {"L40S", "l40s", "", 89, 142, {362, 362, 183, 91.6}, 864, 0, 0, "NVIDIA L40S data sheet"},
    {"L4", "l4", "", 89, 58, {121, 121, 60, 30.3}, 300, 0, 0, "NVIDIA L4 data sheet"},
    {"RTX 3090", "3090", "ti laptop", 86, 82, {71, 71, 35.6, 35.6}, 936, 0, 0, "NVIDIA GA102 white paper"},
    {"RTX 4090", "4090", "d laptop", 89, 128, {165.2, 165.2, 82.6, 82.6}, 1008, 0, 0, "NVIDIA Ada white paper"},
    {"RTX 5090", "5090", "d laptop", 120, 170, {209.5, 209.5, 104.8, 104.8}, 1792, 0, 0, "RTX Blackwell white paper"},
    {"T4", "t4", "", 75, 40, {8.1, 65, 8.1, 8.1}, 320, 0, 0, "NVIDIA T4 data sheet"},
    {"V100 PCIe", "v100 pcie", "", 70, 80, {14, 112, 14, 14}, 900, 0, 0, "NVIDIA V100 data sheet"},
    {"V100 SXM", "v100", "", 70, 80, {15.7, 125, 15.7, 15.7}, 900, 0, 0, "NVIDIA V100 data sheet"},
    {"MI300X", "mi300x", "", 0, 304, {1307, 1307, 654, 163.4}, 5300, 0, 0, "AMD Instinct MI300X data sheet"},
};

// A kernel that streams N bytes on the H200 takes 1.7 us + N / 4.54 TB/s: within 5 % of the measured 2.6 us (4.7 MB),
// 4.8 (14.2 MB), 9.1 (33.5 MB), 46.5 (201 MB) and 311.5 (1409 MB).
inline constexpr double kStreamRampUs = 1.7;

// The stated efficiency of a fused MLP, until its kernel is measured on the GPU: seconds = limit / share + fixed.
// From prototypes on the H200, with the limit as defined in gpu_model.h.
struct FusedShare {
  const char* name;
  int max_width;            // both d_in and d_out; 0: any
  std::int64_t max_tokens;  // 0: any
  double share;
  double fixed_us;
  std::string_view source;
};

inline constexpr FusedShare kFusedShares[] = {
    {"decode", 0, 64, 0.93, 1.2,
     "one launch: GeGLU 768x3072 at 1 and 16 tokens 6.0 and 7.3-7.9 us against 4.8; 4096x14336 83.7 and 90.5 "
     "against 81; 1.2 us is the barrier between the products"},
    {"narrow", 128, 0, 0.76, 1.2,
     "on chip: 128x512 at 262144 and 65536 tokens 115 and 33.5 us against 86.2 and 21.6"},
    {"narrow", 256, 0, 0.92, 5.0,
     "on chip: 256x1024 at 262144 and 65536 tokens 369-391 and 98-112 us against 344.8 and 86.2"},
    {"prefill", 0, 0, 0.92, 5.0,
     "two overlapped launches: GeGLU 768x3072 at 8192 and 1024 tokens 154.1 and 26.1-27.6 us against 145.5 and 18.2; "
     "the two products alone of 4096x14336 at 8192 tokens reach 0.92 in cuBLAS"},
};

}  // namespace fusedmlp::core
