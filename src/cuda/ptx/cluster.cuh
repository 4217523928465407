// Thread block clusters (sm_90): the CTAs of a cluster wait for one another and write to each other's shared memory.
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::ptx {

// All threads of the cluster arrive, a warp at once; what they wrote before is seen by all after the wait.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// What the address `shared` is in the CTA of this rank.
__device__ inline std::uint32_t cluster_address(std::uint32_t shared, std::uint32_t rank) {
  std::uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared), "r"(rank));
  return there;
}

// 16 bytes to the address that `shared` is in the CTA of this rank; they count on its barrier.
__device__ inline void store_cluster(std::uint32_t shared, std::uint32_t barrier, std::uint32_t rank,
                                     const float4& v) {
  const std::uint32_t there = cluster_address(shared, rank), its_barrier = cluster_address(barrier, rank);
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(there),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(its_barrier)
      : "memory");
}

// The same, seen after the cluster's next barrier.
__device__ inline void store_cluster(std::uint32_t shared, std::uint32_t rank, const float4& v) {
  const std::uint32_t there = cluster_address(shared, rank);
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(v.x), "f"(v.y), "f"(v.z),
               "f"(v.w)
               : "memory");
}

}  // namespace fusedmlp::cuda::ptx
