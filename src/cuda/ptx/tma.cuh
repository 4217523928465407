// The tensor copy engine (TMA): 2-D tiles between global and shared memory, described by a tensor map.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace fusedmlp::cuda::ptx {

__device__ inline void prefetch_tensor_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<std::uint64_t>(&map)) : "memory");
}

// Tile at (column, row) of the map to `shared`; completes on `barrier`. What lies outside the matrix arrives as 0
// and counts as bytes.
__device__ inline void tma_load(std::uint32_t shared, const CUtensorMap& map, std::uint32_t barrier, int column,
                                int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
      "[%2];" ::"r"(shared),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

// Asks L2 for the tile at (column, row) of the map.
__device__ inline void tma_prefetch(const CUtensorMap& map, int column, int row) {
  asm volatile(
      "cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(reinterpret_cast<std::uint64_t>(&map)),
      "r"(column), "r"(row)
      : "memory");
}

// Tile from `shared` to (column, row); what lies outside the matrix is not written.
__device__ inline void tma_store(const CUtensorMap& map, std::uint32_t shared, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
                   reinterpret_cast<std::uint64_t>(&map)),
               "r"(shared), "r"(column), "r"(row)
               : "memory");
}

__device__ inline void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until at most Pending of this thread's stores still read shared memory.
template <int Pending>
__device__ inline void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}

// Until this thread's stores are done.
__device__ inline void tma_store_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// Orders this thread's ordinary shared-memory accesses before later ones of the copy engine and the tensor cores.
__device__ inline void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace fusedmlp::cuda::ptx
