// Which kernels a call gets.
#pragma once

#include <type_traits>
#include <utility>

#include "cuda/cluster/product.cuh"
#include "cuda/common/launch.h"
#include "cuda/sm90/tensor_map.h"

namespace fusedmlp::cuda::cluster {

template <class T>
Status encode(CUtensorMap& map, const sm90::Matrix& matrix, int rows) {
  return sm90::encode_tensor_map(map, std::is_same_v<T, f16> ? DType::f16 : DType::bf16, matrix, rows, kBlockK);
}

// One of the MLP's products.
struct ProductCall {
  Gemm gemm;
  FastActivation activation;
  ProductPlan plan;
  bool leads = false;
  Drawn drawn;
};

template <class T, class Tile>
Status launch_tile(const ProductCall& call, cudaStream_t stream) {
  const Gemm& g = call.gemm;
  const ProductPlan& plan = call.plan;
  const Weight& first = Tile::kGated ? g.gate : g.w;
  Params p{};
  p.tokens = static_cast<int>(g.m);
  p.token_tiles = token_tiles_of(g.m, Tile::kShape);
  p.box_tokens = tile_tokens_of(g.m, Tile::kShape);
  if (Status status = encode<T>(p.a, {g.a, g.m, g.k, g.lda}, p.box_tokens); !status) return status;
  if (Status status = encode<T>(p.b, {first.data, g.n, g.k, first.row_stride}, Tile::kOut); !status) return status;
  if (Tile::kGated) {
    if (Status status = encode<T>(p.b_up, {g.w.data, g.n, g.k, g.w.row_stride}, Tile::kOut); !status) return status;
  }
  p.out = g.out;
  p.out_stride = g.ldo;
  p.bias = g.bias;
  p.gate_bias = g.gate_bias;
  p.activation = call.activation;
  p.columns = g.n;
  p.k_blocks = (g.k + kBlockK - 1) / kBlockK;
  p.slices = plan.slices;
  p.leads = call.leads;
  p.drawn = call.drawn;
  Launch how;
  how.grid = static_cast<unsigned>((g.n + Tile::kOut - 1) / Tile::kOut * p.token_tiles * plan.slices);
  how.cluster = static_cast<unsigned>(plan.slices);
  how.block = Tile::kThreads;
  how.shared_bytes = Tile::kShared;
  how.stream = stream;
  how.overlaps_predecessor = true;
  if (recording() != nullptr) how.what = describe(plan);
  return launch<product<T, Tile>>(kName, how, Tile::kShared, p);
}

template <class T, bool kGated>
Status launch_product(const ProductCall& call, cudaStream_t stream) {
  Status status;
  [&]<int... kForm>(std::integer_sequence<int, kForm...>) {
    static_cast<void>(
        ((call.plan.form == kForm && (status = launch_tile<T, Tile<kForm, kGated>>(call, stream), true)) || ...));
  }
  (std::make_integer_sequence<int, kFormCount>());
  return status;
}

template <class T>
Status launch_mlp(const Call& call, cudaStream_t stream) {
  const Plan& plan = call.plan;
  const ProductCall up{call.products.hidden, call.activation, plan.up, false, plan.drawn};
  const Status status = call.gated ? launch_product<T, true>(up, stream) : launch_product<T, false>(up, stream);
  return status ? launch_product<T, false>({call.products.out, {}, plan.down, true, {}}, stream) : status;
}

}  // namespace fusedmlp::cuda::cluster
