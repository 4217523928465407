// Which kernel of cuda.matvec a call gets.
#pragma once

#include "cuda/matvec/resident.cuh"
#include "cuda/matvec/streaming.cuh"

namespace fusedmlp::cuda::matvec {

template <class T, int kTokens, bool kGated>
Status launch_mlp(const Call& call, cudaStream_t stream) {
  const Args args{call.products, call.activation, call.plan.up, call.plan.down, call.barrier};
  Launch how;
  how.grid = static_cast<unsigned>(call.plan.blocks);
  how.block = static_cast<unsigned>(call.plan.threads);
  how.shared_bytes = call.plan.shared_bytes;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  how.cooperative = true;  // the blocks meet
  if (recording() != nullptr) how.what = describe(call.plan);
  switch (call.plan.form) {
    case 0: return launch<resident_kernel<T, kTokens, kGated, 0>>(kName, how, 0, args);
    case 1: return launch<resident_kernel<T, kTokens, kGated, 1>>(kName, how, 0, args);
    case 2: return launch<resident_kernel<T, kTokens, kGated, 2>>(kName, how, 0, args);
    case kStreaming: return launch<streaming_kernel<T, kTokens, kGated>>(kName, how, call.most_shared, args);
  }
  return Status(StatusCode::internal, "", "unknown form");
}
static_assert(kStreaming == 3, "a case above for each resident form");

template <class T>
Status launch_any(const Call& call, cudaStream_t stream) {
  if (call.products.hidden.m == 1) {
    return call.gated ? launch_mlp<T, 1, true>(call, stream) : launch_mlp<T, 1, false>(call, stream);
  }
  return call.gated ? launch_mlp<T, 2, true>(call, stream) : launch_mlp<T, 2, false>(call, stream);
}

}  // namespace fusedmlp::cuda::matvec
