// Rates of each CPU class, the cost model's only source for them. Measured on machines of two cores; a machine
// of another size gets them scaled (device.cpp), so predictions elsewhere are modelled.
#pragma once

#include "fusedmlp/device.h"

namespace fusedmlp::core {

struct CpuConstants {
  Isa isa;
  double gflops_per_core[kDTypeCount];  // fp32, bf16, fp16 storage; products accumulated in fp32
  double tile_gflops_per_core;          // bf16 by AMX on random numbers (constant ones run 20 % faster), no loads
  double l2_per_core;                   // GB/s read
  double l3_per_core;
  double memory_per_core;
  double memory_two_cores;  // both cores of the measured machine together
  double memory_socket;     // what more cores reach at most
  double region_us;         // starting and ending one parallel region
};

inline constexpr CpuConstants kCpuConstants[] = {
    // isa            fp32   bf16   fp16    tiles    L2     L3   mem  mem x2  socket  region
    {Isa::generic, {8.0, 8.0, 8.0}, 0.0, 50.0, 20.0, 10.0, 20.0, 100.0, 3.0},
    {Isa::avx2, {100.0, 90.0, 90.0}, 0.0, 100.0, 25.0, 12.0, 22.0, 150.0, 3.0},
    {Isa::avx512, {174.0, 165.0, 165.0}, 0.0, 142.0, 28.0, 15.0, 27.0, 200.0, 3.0},
    {Isa::amx, {190.0, 180.0, 180.0}, 2965.0, 175.0, 30.0, 16.0, 32.0, 250.0, 3.0},
};

}  // namespace fusedmlp::core
