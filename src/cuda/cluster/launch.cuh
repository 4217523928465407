// Which kernels a call gets.
#pragma once

#include <type_traits>
#include <utility>

#include "cuda/cluster/product.cuh"
#include "cuda/common/launch.h"
#include "cuda/sm90/tensor_map.h"

namespace fusedmlp::cuda::cluster {

template <class T, class Tile>
Status launch_tile(const Gemm& g, const ActivationArgs& activation, const ProductPlan& plan, bool leads,
                   cudaStream_t stream) {
  constexpr DType kDType = std::is_same_v<T, f16> ? DType::f16 : DType::bf16;
  const auto encode = [](CUtensorMap& map, const sm90::Matrix& matrix, int rows) {
    return sm90::encode_tensor_map(map, kDType, matrix, rows, kBlockK);
  };
  const Weight& first = Tile::kGated ? g.gate : g.w;
  Params p{};
  p.tokens = static_cast<int>(g.m);
  // Boxes of no more rows than there are tokens: the copy engine's zeros cost time too.
  if (Status status = encode(p.a, {g.a, g.m, g.k, g.lda}, p.tokens); !status) return status;
  if (Status status = encode(p.b, {first.data, g.n, g.k, first.row_stride}, Tile::kOut); !status) return status;
  if (Tile::kGated) {
    if (Status status = encode(p.b_up, {g.w.data, g.n, g.k, g.w.row_stride}, Tile::kOut); !status) return status;
  }
  p.out = g.out;
  p.out_stride = g.ldo;
  p.bias = g.bias;
  p.gate_bias = g.gate_bias;
  p.activation = activation;
  p.columns = g.n;
  p.k_blocks = (g.k + kBlockK - 1) / kBlockK;
  p.slices = plan.slices;
  p.leads = leads;
  p.alone = finishes_alone(plan, g.m);
  Launch how;
  how.grid = static_cast<unsigned>((g.n + Tile::kOut - 1) / Tile::kOut * plan.slices);
  how.cluster = static_cast<unsigned>(plan.slices);
  how.block = Tile::kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = true;
  if (recording() != nullptr) how.what = describe(plan);
  return launch<product<T, Tile>>(kName, how, Tile::kShared, p);
}

template <class T, bool kGated>
Status launch_product(const Gemm& g, const ActivationArgs& activation, const ProductPlan& plan, bool leads,
                      cudaStream_t stream) {
  Status status;
  [&]<int... kForm>(std::integer_sequence<int, kForm...>) {
    static_cast<void>(((plan.form == kForm &&
                        (status = launch_tile<T, Tile<kForm, kGated>>(g, activation, plan, leads, stream), true)) ||
                       ...));
  }
  (std::make_integer_sequence<int, kFormCount>());
  return status;
}

template <class T>
Status launch_mlp(const Call& call, cudaStream_t stream) {
  const Plan& plan = call.plan;
  const Gemm& hidden = call.products.hidden;
  const Status status = call.gated ? launch_product<T, true>(hidden, call.activation, plan.up, false, stream)
                                   : launch_product<T, false>(hidden, call.activation, plan.up, false, stream);
  return status ? launch_product<T, false>(call.products.out, {}, plan.down, true, stream) : status;
}

}  // namespace fusedmlp::cuda::cluster
