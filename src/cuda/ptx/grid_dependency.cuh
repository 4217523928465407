// Programmatic dependent launch (sm_90 and newer; nothing elsewhere).
#pragma once

namespace fusedmlp::cuda::ptx {

// Waits until the kernel before this one on the stream has finished and its writes are visible.
__device__ __forceinline__ void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel on the stream start; what it may read is for its own wait to see to.
__device__ __forceinline__ void grid_dependency_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace fusedmlp::cuda::ptx
