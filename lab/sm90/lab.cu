// Laboratory: one product with a tile of src/cuda/sm90/tiles.h behind a C interface, for lab/sm90/bench.py.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

#include "cuda/sm90/split.h"

namespace {
using namespace fusedmlp;
using namespace fusedmlp::cuda;
}  // namespace

struct Call {  // mirrored in bench.py
  int rows, columns, k;
  const void *a, *b, *b_up, *bias, *bias_up;
  void* out;
  long long lda, ldb, ldb_up, ldo;
  int activation, gated, half, overlaps_predecessor, second, sms;
  float alpha, limit;
  cudaStream_t stream;
};

extern "C" {

// The tiles, then the splits.
int lab_count() { return sm90::kTileCount + sm90::kSplitCount; }
int lab_gated(int i) { return i < sm90::kTileCount && sm90::kTiles[i].gated; }
int lab_split(int i) { return i >= sm90::kTileCount; }

const char* lab_name(int i) {
  static char names[sm90::kTileCount + sm90::kSplitCount][64];
  if (lab_split(i)) {
    const sm90::Split& split = sm90::kSplits[i - sm90::kTileCount];
    std::snprintf(names[i], sizeof names[i], "%dx%d in %d", sm90::kSplitRows, split.columns, split.slices);
    return names[i];
  }
  const sm90::TileShape& t = sm90::kTiles[i];
  std::snprintf(names[i], sizeof names[i], "%dx%d, %d stages, %d %s", t.m, t.weights, t.stages, t.consumers,
                t.turns ? "by turns" : "sharing");
  return names[i];
}

// 0, or 1 with the reason on stderr.
int lab_gemm(int tile, const Call* c) {
  MlpSpec spec;
  spec.activation = static_cast<Activation>(c->activation);
  spec.dtype = c->half ? DType::f16 : DType::bf16;
  spec.alpha = c->alpha;
  spec.limit = c->limit;
  sm90::GemmCall call;
  call.gemm = {c->a, c->lda, {c->b, c->ldb, 1}, {}, {c->bias, 1}, {}, c->out, c->ldo, c->rows, c->columns, c->k};
  if (c->gated) {
    call.gemm.w = {c->b_up, c->ldb_up, 1};
    call.gemm.gate = {c->b, c->ldb, 1};
    call.gemm.bias = {c->bias_up, 1};
    call.gemm.gate_bias = {c->bias, 1};
  }
  call.activation = fast_activation(spec);
  call.tile = tile;
  call.sms = c->sms;
  call.overlaps_predecessor = c->overlaps_predecessor != 0;
  call.second = c->second != 0;
  if (lab_split(tile)) {
    const int split = tile - sm90::kTileCount;
    const Status status =
        c->half ? sm90::split_f16(call, split, c->stream) : sm90::split_bf16(call, split, c->stream);
    if (!status) std::fprintf(stderr, "%s\n", status.message().c_str());
    return status ? 0 : 1;
  }
  const Status status = c->half
                            ? (c->gated ? sm90::gemm_f16_gated(call, c->stream) : sm90::gemm_f16(call, c->stream))
                            : (c->gated ? sm90::gemm_bf16_gated(call, c->stream) : sm90::gemm_bf16(call, c->stream));
  if (status) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}
}
