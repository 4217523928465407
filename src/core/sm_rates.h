// Rates of GPU generations, the cost model's only source for what the driver does not report.
#pragma once

#include <iterator>

namespace fusedmlp::core {

// Multiply-adds a clock and SM, dense: plain fp32 lanes, and tensor cores with 16-bit operands and fp32 sums.
// From NVIDIA's architecture white papers (A100, GA102, AD102, H100, Blackwell).
struct SmRates {
  int capability;  // 10 * major + minor, the least that the row serves
  int fp32;
  int half;
};
inline constexpr SmRates kSmRates[] = {{120, 128, 512}, {100, 128, 4096}, {90, 128, 2048},
                                       {89, 128, 512},  {86, 128, 256},   {80, 64, 1024}};

// The row of a compute capability; the oldest one for anything older.
constexpr const SmRates& sm_rates(int capability) {
  for (const SmRates& row : kSmRates) {
    if (capability >= row.capability) return row;
  }
  return kSmRates[std::size(kSmRates) - 1];
}

// From one kernel's end to the next one's start on a stream, measured in a CUDA graph on an H200.
inline constexpr double kKernelGapSeconds = 0.57e-6;

// What a kernel needs to start, fill its pipelines and drain, beyond its work at full rate: fitted to kernels of
// a few microseconds on an H200.
inline constexpr double kKernelRampSeconds = 2.0e-6;

// Share of the tensor cores' nominal rate that a GEMM library's large products reach under load (H200, bf16: the best
// of eager and compiled MLPs at 1024 and 8192 tokens less their element-wise passes, 0.58 to 0.73). The kernels'
// predictions were fitted under the same load; a cool GPU is up to 15 % faster at both.
inline constexpr double kLibraryGemmShare = 0.65;
// Share of the bandwidth that its products of few tokens reach (H200: the best of eager and compiled MLPs of 33 MB of
// weights and more at 1 to 64 tokens less launches and element-wise passes, 0.9 to 0.96).
inline constexpr double kLibraryReadShare = 0.93;

// Share of the nominal memory bandwidth that a streaming kernel reaches (H200: 4.5 of 4.8 TB/s).
inline constexpr double kMemoryEfficiency = 0.93;

}  // namespace fusedmlp::core
