// Which kernel of cuda.matvec a call gets.
#pragma once

#include <type_traits>
#include <utility>

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
  if constexpr (kTokens == 1) {
    Status status;
    bool found = false;
    const auto try_form = [&]<int kForm>(std::integral_constant<int, kForm>) {
      if constexpr (kGated ? kResident[kForm].gated : kResident[kForm].plain) {
        if (call.plan.form != kForm) return;
        found = true;
        status = launch<resident_kernel<T, kGated, kForm>>(kName, how, 0, args);
      }
    };
    [&]<int... kForm>(std::integer_sequence<int, kForm...>) { (try_form(std::integral_constant<int, kForm>()), ...); }
    (std::make_integer_sequence<int, kStreaming>());
    if (found) return status;
  }
  return launch<streaming_kernel<T, kTokens, kGated>>(kName, how, call.most_shared, args);
}

template <class T>
Status launch_any(const Call& call, cudaStream_t stream) {
  if (call.products.hidden.m == 1) {
    return call.gated ? launch_mlp<T, 1, true>(call, stream) : launch_mlp<T, 1, false>(call, stream);
  }
  return call.gated ? launch_mlp<T, 2, true>(call, stream) : launch_mlp<T, 2, false>(call, stream);
}

}  // namespace fusedmlp::cuda::matvec
