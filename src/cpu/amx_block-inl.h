// The products of the AMX kernels, 2 x 2 tiles at a time, with the vector work of one block (activation, sums,
// rounding) done between the tile instructions of the next: both then run side by side. Included under a Highway
// target with `Tiles`, which has the product of a block and how vectors are stored: by amx_kernels.cpp, by
// dot_kernels.cpp, and by tests with a model of the tile instructions.

#if defined(FUSEDMLP_CPU_AMX_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FUSEDMLP_CPU_AMX_BLOCK_INL_H_
#undef FUSEDMLP_CPU_AMX_BLOCK_INL_H_
#else
#define FUSEDMLP_CPU_AMX_BLOCK_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "cpu/amx_kernels.h"
#include "cpu/gate_table-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using AmxFloat = hn::CappedTag<float, 16>;
inline constexpr std::int64_t kHalf = kPanelWidth / 2;
inline constexpr std::int64_t kLineBytes = 64;

// Vector work on rows of a pending block, a few at each step of the next one but its first.
template <class Row>
class Interleaved {
 public:
  HWY_INLINE Interleaved(const Row& row, const AmxPending& pending, std::int64_t steps)
      : row_(row),
        pending_(pending),
        per_step_(pending.rows > 0 ? ceil_div(pending.rows, std::max<std::int64_t>(1, steps - 1)) : 0) {}
  HWY_INLINE void step() {
    for (std::int64_t i = std::min(per_step_, pending_.rows); i > 0; --i) row_.run(pending_);
  }

 private:
  Row row_;
  AmxPending pending_;  // a copy, kept in registers; all of it is done when the steps are over
  std::int64_t per_step_;
};

template <class Tiles, class Row>
void Finish(AmxPass& pass) {
  Tiles::close(pass.open);
  const Row row;
  while (pass.pending.rows > 0) row.run(pass.pending);
}

// Products of a row with those of earlier slices.
template <class D>
HWY_INLINE hn::Vec<D> Total(D d, const AmxPending& p, std::int64_t i) {
  const auto v = hn::Load(d, p.c + i);
  return p.sums ? hn::Add(v, hn::Load(d, p.sums + i)) : v;
}

HWY_INLINE void KeepTotal(const AmxPending& p) {
  const AmxFloat d;
  for (std::int64_t i = 0; i < kPanelWidth; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    hn::Store(Total(d, p, i), d, p.sums + i);
  }
}

HWY_INLINE void NextRow(AmxPending& p) {
  if (p.sums) p.sums += kPanelWidth;
  p.c += kPanelWidth;
  --p.rows;
}

// One row of the hidden from its products: 16 values when gated, 32 when plain. The hidden is rounded to bf16, so its
// activation is as precise as that.
template <class Tiles, Activation kActivation, bool kGated>
class HiddenRow {
 public:
  HWY_INLINE HiddenRow() : activation_(AmxFloat()) {}
  HWY_INLINE void run(AmxPending& p) const {
    const AmxFloat d;
    auto* to = reinterpret_cast<std::uint16_t*>(p.to);
    if (!p.to) {
      KeepTotal(p);
      return NextRow(p);
    }
    constexpr std::int64_t kValues = kGated ? kHalf : kPanelWidth;
    for (std::int64_t i = 0; i < kValues; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      const auto z = hn::Add(Total(d, p, i), hn::Load(d, p.bias + i));
      if constexpr (kGated) {
        const auto up = hn::Add(Total(d, p, kHalf + i), hn::Load(d, p.bias + kHalf + i));
        Tiles::store_bf16(activation_.gated(d, z, up, p.spec->alpha, p.spec->limit), to + i);
      } else {
        Tiles::store_bf16(activation_.activate(d, z), to + i);
      }
    }
    p.to += 2 * kTileK;
    NextRow(p);
  }

 private:
  CoarseActivation<kActivation, AmxFloat> activation_;
};

// One row of y from its products.
template <class Tiles>
struct DownRow {
  HWY_INLINE DownRow() = default;
  HWY_INLINE void run(AmxPending& p) const {
    const AmxFloat d;
    if (!p.to) {
      KeepTotal(p);
      return NextRow(p);
    }
    alignas(64) std::uint16_t edge[kPanelWidth];
    const bool whole = p.columns == kPanelWidth;
    auto* to = whole ? reinterpret_cast<std::uint16_t*>(p.to) : edge;
    for (std::int64_t i = 0; i < kPanelWidth; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      Tiles::store_bf16(hn::Add(Total(d, p, i), hn::Load(d, p.bias + i)), to + i);
    }
    if (!whole) std::memcpy(p.to, edge, static_cast<std::size_t>(p.columns) * sizeof(std::uint16_t));
    p.to += p.row_bytes;
    NextRow(p);
  }
};

// What is drawn into L2 during a slice: `bytes` at each step, whole lines; and what L1 is for.
struct Ahead {
  const std::byte* at;
  std::int64_t bytes;
  bool near;  // one row tile: rather the slice's own weights into L1, some steps before their use
  bool once;  // one pair of rows: it reads the weights, and the rows are read again with the next
};

// Where a tile of a block's products lies.
constexpr std::int64_t kProductStride = kPanelWidth * static_cast<std::int64_t>(sizeof(float));
constexpr std::int64_t offset_of(int tile) { return tile / 2 * kTileHeight * kPanelWidth + tile % 2 * kHalf; }

// Stores products that are still in tile registers; null: there are none.
template <class Tiles>
HWY_INLINE void Close(float*& open) {
  if (!open) return;
  Tiles::template store<0>(open + offset_of(0), kProductStride);
  Tiles::template store<1>(open + offset_of(1), kProductStride);
  Tiles::template store<2>(open + offset_of(2), kProductStride);
  Tiles::template store<3>(open + offset_of(3), kProductStride);
  open = nullptr;
}

// c[kRowTiles * 16, 32] = a slice, over all its steps in the direction asked for, with `work` between. Two row tiles'
// products stay in tile registers: the next block stores each just before it takes the register, which costs half of
// what four stores at the end do. `open` says where they belong, before and after.
template <class Tiles, int kRowTiles, bool kOnce, class Work>
HWY_INLINE void Steps(const std::byte* a, const AmxSlice& slice, bool backward, Ahead ahead, float* c, float*& open,
                      Work work) {
  constexpr std::int64_t kRowStride = 2 * kTileK;         // bytes
  constexpr std::int64_t kPanelStride = 4 * kPanelWidth;  // bytes: a pair of k of 32 columns
  constexpr std::int64_t kSecond = kPanelStride / 2;      // the panel's second 16 columns
  constexpr std::int64_t kNearSteps = 4;
  const std::int64_t last = slice.steps - 1;
  if constexpr (kRowTiles == 1) Close<Tiles>(open);
  float* const before = open;
  const bool near = kRowTiles == 1 && ahead.near;
  if (near) ahead.bytes = 0;
  const std::int64_t first_part = ahead.bytes / kLineBytes / 2 * kLineBytes;
  const auto draw_in = [](const std::byte* at, std::int64_t bytes) {
    for (std::int64_t i = 0; i < bytes; i += kLineBytes) Tiles::prefetch(at + i);
  };
  const std::int64_t apart = backward ? 0 : last;  // the step whose weights may lie elsewhere
  const std::int64_t rows_step = (backward ? -kRowTiles : kRowTiles) * kTileBytes;
  const std::int64_t weights_step = backward ? -kStepBytes : kStepBytes;
  const std::byte* rows = backward ? a + last * kRowTiles * kTileBytes : a;
  const std::byte* weights = backward ? slice.weights + last * kStepBytes : slice.weights;
  const auto load =
      []<int kTile>(const std::byte* from, std::int64_t stride) HWY_ATTR __attribute__((always_inline)) {
    if constexpr ((kTile >= 6) == kOnce) {
      Tiles::template load_once<kTile>(from, stride);
    } else {
      Tiles::template load<kTile>(from, stride);
    }
  };
  // Each product shares an operand with the one before, and each load and product is followed by a pause.
  const auto step = [&]<bool kFirst>(std::int64_t s) HWY_ATTR __attribute__((always_inline)) {
    const auto multiply = [&]<int kC, int kA, int kB>() HWY_ATTR __attribute__((always_inline)) {
      if constexpr (kFirst) {
        if (before) Tiles::template store<kC>(before + offset_of(kC), kProductStride);
        Tiles::template zero<kC>();
      }
      Tiles::template multiply<kC, kA, kB>();
      Tiles::pause();
    };
    const std::byte* b = s == apart ? slice.last : weights;
    if (near) {
      const std::byte* soon = b + kNearSteps * kStepBytes;
      for (std::int64_t i = 0; i < kStepBytes; i += kLineBytes) Tiles::prefetch_near(soon + i);
    }
    load.template operator()<4>(rows, kRowStride);
    load.template operator()<6>(b, kPanelStride);
    Tiles::pause();
    if constexpr (kRowTiles == 2) {
      load.template operator()<5>(rows + kTileBytes, kRowStride);
      Tiles::pause();
    }
    load.template operator()<7>(b + kSecond, kPanelStride);
    Tiles::pause();
    multiply.template operator()<0, 4, 6>();
    draw_in(ahead.at, first_part);
    if constexpr (kRowTiles == 2) {
      multiply.template operator()<2, 5, 6>();
      multiply.template operator()<3, 5, 7>();
    }
    draw_in(ahead.at + first_part, ahead.bytes - first_part);
    multiply.template operator()<1, 4, 7>();
    rows += rows_step;
    weights += weights_step;
    ahead.at += ahead.bytes;
    // The pending block is stored by now, but its first lines only just.
    if (!kFirst || last == 0) work.step();
  };
  step.template operator()<true>(0);
  for (std::int64_t s = 1; s <= last; ++s) step.template operator()<false>(s);
  open = c;
  if constexpr (kRowTiles == 1) {
    Tiles::template store<0>(c + offset_of(0), kProductStride);
    Tiles::template store<1>(c + offset_of(1), kProductStride);
    open = nullptr;
  }
}

template <class Tiles, int kRowTiles, class Work>
HWY_INLINE void Product(const std::byte* a, const AmxSlice& slice, bool backward, Ahead ahead, float* c, float*& open,
                        Work work) {
  if constexpr (kRowTiles == 2) {
    if (ahead.once) return Steps<Tiles, kRowTiles, true>(a, slice, backward, ahead, c, open, work);
  }
  Steps<Tiles, kRowTiles, false>(a, slice, backward, ahead, c, open, work);
}

// A slice times every pair of rows of the pass. place(pair) says where the products go, as pending work; without rows
// they are final as they are, in `sums`. All products share one buffer: a block's are stored at the beginning of the
// next and used up during it.
template <class Tiles, class Row, class Place>
HWY_INLINE void SliceOverRows(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const Place& place) {
  const std::int64_t pairs = pass.rows.pairs();
  Ahead ahead{slice.ahead, ceil_div(slice.ahead_bytes / kLineBytes, pairs * slice.steps) * kLineBytes,
              pass.rows.rows <= kTileHeight, pairs == 1};
  const Row row;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    AmxPending next = place(pair);
    float* c = next.rows == 0 ? next.sums : pass.block;
    next.c = c;
    const std::byte* a = pass.rows.at(pair, k);
    const Interleaved<Row> work(row, pass.pending, slice.steps);
    if (pass.rows.tiles_in_pair(pair) == 2) {
      Tiles::template product<2>(a, slice, pass.backward, ahead, c, pass.open, work);
    } else {
      Tiles::template product<1>(a, slice, pass.backward, ahead, c, pass.open, work);
    }
    pass.pending = next;
    pass.finish = &Finish<Tiles, Row>;
    pass.backward = !pass.backward;
    ahead.at += ahead.bytes * slice.steps;
  }
}

// The pending work on a pair's products but for where the last slice's go.
inline AmxPending PendingOf(const AmxPass& pass, const AmxSums& sums, std::int64_t pair) {
  AmxPending next;
  next.sums = sums.blocks ? sums.blocks + pair * kBlockFloats : nullptr;
  if (sums.first && !sums.last) return next;
  next.rows = pass.rows.rows_in_pair(pair);
  if (sums.first) next.sums = nullptr;
  return next;
}

template <class Tiles, Activation kActivation, bool kGated>
void HiddenSlice(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const AmxHiddenTarget& target) {
  using Row = HiddenRow<Tiles, kActivation, kGated>;
  SliceOverRows<Tiles, Row>(pass, k, slice, [&](std::int64_t pair) HWY_ATTR {
    AmxPending next = PendingOf(pass, target.sums, pair);
    if (target.sums.last) {
      next.bias = target.bias;
      next.to = target.hidden.at(pair, target.k_tile) + (target.upper_half ? kTileK : 0);
      next.spec = &pass.spec;
    }
    return next;
  });
}

template <class Tiles, bool kGated, int... kIndex>
constexpr auto HiddenSliceTable(std::integer_sequence<int, kIndex...>) {
  return std::array{&HiddenSlice<Tiles, static_cast<Activation>(kIndex), kGated>...};
}

template <class Tiles>
void Hidden(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const AmxHiddenTarget& target) {
  constexpr auto kAll = std::make_integer_sequence<int, kActivationCount>();
  static constexpr auto kGatedTable = HiddenSliceTable<Tiles, true>(kAll);
  static constexpr auto kPlainTable = HiddenSliceTable<Tiles, false>(kAll);
  const auto index = static_cast<std::size_t>(pass.spec.activation);
  (pass.spec.gated ? kGatedTable : kPlainTable)[index](pass, k, slice, target);
}

template <class Tiles>
void Down(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const AmxDownTarget& target) {
  SliceOverRows<Tiles, DownRow<Tiles>>(pass, k, slice, [&](std::int64_t pair) HWY_ATTR {
    AmxPending next = PendingOf(pass, target.sums, pair);
    if (target.sums.last) {
      next.to = target.y + pair * kPairRows * target.row_bytes;
      next.row_bytes = target.row_bytes;
      next.columns = target.columns;
      next.bias = target.bias;
    }
    return next;
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
