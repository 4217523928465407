// Occupancy from what the trace says of a kernel and its device.
#include "trace/occupancy.h"

#include <gtest/gtest.h>

#include "made_trace.h"

namespace fusedmlp::trace {
namespace {

DeviceArgs kernel(int grid, int block, int registers, int shared) {
  DeviceArgs out;
  out.grid[0] = grid;
  out.block[0] = block;
  out.grid[1] = out.grid[2] = out.block[1] = out.block[2] = 1;
  out.registers = registers;
  out.shared_memory = shared;
  return out;
}

TEST(Occupancy, LimitsOneByOne) {
  EXPECT_DOUBLE_EQ(*occupancy(kernel(100000, 256, 32, 0), h200()), 1.0);
  // 168 registers: 21 units of 256 a warp, 12 warps in fours; 1 block of 12 warps of 64.
  EXPECT_DOUBLE_EQ(*occupancy(kernel(100000, 384, 168, 0), h200()), 12.0 / 64);
  // 227 KiB of shared memory and 1 KiB of the system's: one block.
  EXPECT_DOUBLE_EQ(*occupancy(kernel(100000, 128, 32, 232448), h200()), 4.0 / 64);
  // 100 KiB: two.
  EXPECT_DOUBLE_EQ(*occupancy(kernel(100000, 128, 32, 102400), h200()), 8.0 / 64);
  // Blocks of one warp: 32 of them.
  EXPECT_DOUBLE_EQ(*occupancy(kernel(100000, 32, 16, 0), h200()), 32.0 / 64);
  EXPECT_DOUBLE_EQ(*occupancy(kernel(100000, 32, 16, 0), device("NVIDIA L4", 8, 9, 58)), 24.0 / 64);
}

// An H200 trace: grid 1024, block 256, 32 registers; the profiler says 97 %.
TEST(Occupancy, FewerBlocksThanFit) {
  EXPECT_DOUBLE_EQ(*occupancy(kernel(1024, 256, 32, 0), h200()), 1024.0 / 132 * 8 / 64);
  EXPECT_DOUBLE_EQ(*occupancy(kernel(1, 1024, 32, 0), h200()), 1.0 / 132 * 32 / 64);
}

TEST(Occupancy, NothingWithoutFigures) {
  EXPECT_FALSE(occupancy(DeviceArgs{}, h200()));
  EXPECT_FALSE(occupancy(kernel(10, 256, -1, 0), h200()));
  EXPECT_FALSE(occupancy(kernel(10, 256, 32, -1), h200()));
  EXPECT_FALSE(occupancy(kernel(10, 2048, 32, 0), h200()));
  EXPECT_FALSE(occupancy(kernel(10, 256, 32, 0), DeviceProperties{}));
  EXPECT_FALSE(occupancy(kernel(10, 256, 32, 0), device("AMD Instinct MI300X", 9, 4, 304)));
  DeviceProperties bare = h200();
  bare.shared_memory_per_sm = -1;
  EXPECT_TRUE(occupancy(kernel(10, 256, 32, 0), bare));
  EXPECT_FALSE(occupancy(kernel(10, 256, 32, 1024), bare));
}

TEST(Occupancy, WhatDoesNotFitIsNone) {
  EXPECT_DOUBLE_EQ(*occupancy(kernel(10, 1024, 255, 0), h200()), 0);
  EXPECT_DOUBLE_EQ(*occupancy(kernel(10, 32, 32, 1 << 30), h200()), 0);
}

}  // namespace
}  // namespace fusedmlp::trace
