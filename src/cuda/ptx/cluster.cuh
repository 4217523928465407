// Thread block clusters (sm_90): the CTAs of a cluster wait for one another and read each other's shared memory.
#pragma once

#include <cstdint>

namespace fusedmlp::cuda::ptx {

// All threads of the cluster arrive, a warp at once; what they wrote before is seen by all after the wait.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// 16 bytes at the address that `shared` is in the CTA of this rank.
__device__ inline float4 load_cluster(std::uint32_t shared, std::uint32_t rank) {
  std::uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared), "r"(rank));
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(there)
               : "memory");
  return v;
}

}  // namespace fusedmlp::cuda::ptx
