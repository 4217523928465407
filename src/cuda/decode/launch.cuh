// Which kernels a call gets.
#pragma once

#include <utility>

#include "cuda/decode/lanes.cuh"
#include "cuda/decode/staged.cuh"
#include "cuda/decode/tensor.cuh"

namespace fusedmlp::cuda::decode {

template <class T, int kForm, bool kWhole>
Status launch_form(const Launch& how, const Args& args) {
  if constexpr (!kForms[kForm].tensor) {
    return launch<lanes_kernel<T, kForm, kWhole>>(kName, how, 0, args);
  } else if constexpr (kForms[kForm].staged) {
    if (args.m <= 16) {
      return launch<staged_kernel<T, kForm, kWhole, 1>>(kName, how, kMostStagedShared, args);
    } else {
      return launch<staged_kernel<T, kForm, kWhole, 2>>(kName, how, kMostStagedShared, args);
    }
  } else if (args.m <= 16) {
    return launch<tensor_kernel<T, kForm, kWhole, 1>>(kName, how, 0, args);
  } else {
    return launch<tensor_kernel<T, kForm, kWhole, 2>>(kName, how, 0, args);
  }
}

inline Args args_of(const Gemm& product, const ActivationArgs& activation, const ProductPlan& plan, Order order,
                    const Drawn& drawn) {
  return {.w = product.w.data,
          .gate = product.gate.data,
          .a = product.a,
          .w_stride = product.w.row_stride,
          .gate_stride = product.gate.row_stride,
          .a_stride = product.lda,
          .n = product.n,
          .k = product.k,
          .m = static_cast<int>(product.m),
          .steps = plan.steps,
          .order = order,
          .drawn = drawn,
          .out = product.out,
          .bias = product.bias,
          .gate_bias = product.gate_bias,
          .out_stride = product.ldo,
          .row_inverse = row_divisor(plan.rows()),
          .activation = activation};
}

template <class T>
Status launch_product(const Call& call, const ProductPlan& plan, const Args& args, cudaStream_t stream) {
  Launch how;
  how.grid = static_cast<unsigned>(plan.blocks);
  how.block = dim3(32, static_cast<unsigned>(plan.splits), static_cast<unsigned>(plan.groups));
  how.shared_bytes = plan.shared_bytes;
  how.stream = stream;
  how.overlaps_predecessor = call.overlaps_predecessor;
  if (recording() != nullptr) how.what = describe(plan);
  Status status;
  [&]<int... kForm>(std::integer_sequence<int, kForm...>) {
    static_cast<void>(((plan.form == kForm && (status = plan.whole ? launch_form<T, kForm, true>(how, args)
                                                                   : launch_form<T, kForm, false>(how, args),
                                               true)) ||
                       ...));
  }
  (std::make_integer_sequence<int, kFormCount>());
  return status;
}

template <class T>
Status launch_mlp(const Call& call, cudaStream_t stream) {
  const Plan& plan = call.plan;
  const Drawn drawn = call.overlaps_predecessor ? plan.drawn : Drawn{};
  const Args up = args_of(call.products.hidden, call.activation, plan.up, Order::waits, drawn);
  if (Status status = launch_product<T>(call, plan.up, up, stream); !status) return status;
  // Without overlap nothing of the stream runs beside it, and reading first is as right.
  return launch_product<T>(call, plan.down, args_of(call.products.out, {}, plan.down, Order::leads, {}), stream);
}

}  // namespace fusedmlp::cuda::decode
