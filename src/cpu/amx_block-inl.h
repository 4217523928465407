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

// Vector work on a pending block, spread over the steps of the next one but its first, a part after each product:
// more at once waits for its operands in the scheduler, in front of tile instructions.
template <class Row>
class Interleaved {
 public:
  HWY_INLINE Interleaved(const Row& row, const AmxPending& pending, std::int64_t steps)
      : row_(row),
        pending_(pending),
        left_(pending.rows * Row::kParts),
        per_step_(ceil_div(left_, std::max<std::int64_t>(1, steps - 1))) {}

  HWY_INLINE void begin_step() {
    now_ = std::min(per_step_, left_);
    left_ -= now_;
  }
  // After product 0, 1, 2 and 3 of a step; all that is left of the step's after the last.
  template <int kProduct>
  HWY_INLINE void after() {
    if (now_ > kProduct) row_.part(pending_);
    if constexpr (kProduct == 3) {
      for (; now_ > 4; --now_) row_.part(pending_);
    }
  }
  // All of it. By value: an object whose address is taken would not stay in registers.
  static HWY_NOINLINE void finish(Interleaved work) {
    for (; work.left_ > 0; --work.left_) work.row_.part(work.pending_);
  }

 private:
  Row row_;
  AmxPending pending_;                      // a copy, kept in registers; all of it is done when the steps are over
  std::int64_t left_, per_step_, now_ = 0;  // parts
};

template <class Tiles, class Row>
void Finish(AmxPass& pass) {
  Tiles::close(pass.open);
  const Row row;
  while (pass.pending.rows > 0) row.part(pass.pending);
}

// Products of a row with those of earlier slices.
template <class D>
HWY_INLINE hn::Vec<D> Total(D d, const AmxPending& p, std::int64_t i) {
  const auto v = hn::Load(d, p.c + i);
  return p.sums ? hn::Add(v, hn::Load(d, p.sums + i)) : v;
}

template <class D>
HWY_INLINE void KeepTotal(D d, const AmxPending& p, std::int64_t columns) {
  for (std::int64_t i = 0; i < columns; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    hn::Store(Total(d, p, i), d, p.sums + i);
  }
}

HWY_INLINE void NextColumns(AmxPending& p, std::int64_t columns) {
  if (p.sums) p.sums += columns;
  p.c += columns;
}

// Goes on to the row's second half, or to the next row.
HWY_INLINE void NextHalf(AmxPending& p) {
  NextColumns(p, kHalf);
  p.half ^= kHalf;
  if (p.half == 0) --p.rows;
}

// A row of the hidden from its products, 16 values at a time: all of it when gated, else half. The hidden is rounded
// to bf16, so its activation is as precise as that.
template <class Tiles, Activation kActivation, bool kGated>
class HiddenRow {
 public:
  static constexpr std::int64_t kParts = kGated ? 1 : 2;
  HWY_INLINE HiddenRow() : activation_(AmxFloat()) {}
  HWY_INLINE void part(AmxPending& p) const {
    const AmxFloat d;
    if (!p.to) {
      KeepTotal(d, p, kGated ? kPanelWidth : kHalf);
    } else {
      auto* to = reinterpret_cast<std::uint16_t*>(p.to);
      for (std::int64_t i = 0; i < kHalf; i += static_cast<std::int64_t>(hn::Lanes(d))) {
        const auto z = hn::Add(Total(d, p, i), hn::Load(d, p.bias + p.half + i));
        if constexpr (kGated) {
          const auto up = hn::Add(Total(d, p, kHalf + i), hn::Load(d, p.bias + kHalf + i));
          Tiles::store_bf16(activation_.gated(d, z, up, p.spec->alpha, p.spec->limit), to + i);
        } else {
          Tiles::store_bf16(activation_.activate(d, z), to + i);
        }
      }
      p.to += kGated ? 2 * kTileK : 2 * kHalf;
    }
    if constexpr (kGated) {
      NextColumns(p, kPanelWidth);
      --p.rows;
    } else {
      NextHalf(p);
    }
  }

 private:
  CoarseActivation<kActivation, AmxFloat> activation_;
};

// A row of y from its products, half of it at a time.
template <class Tiles>
struct DownRow {
  static constexpr std::int64_t kParts = 2;
  HWY_INLINE DownRow() = default;
  HWY_INLINE void part(AmxPending& p) const {
    const AmxFloat d;
    if (!p.to) {
      KeepTotal(d, p, kHalf);
      return NextHalf(p);
    }
    alignas(64) std::uint16_t edge[kHalf];
    const std::int64_t columns = p.columns - p.half;  // that there are from here on
    const bool whole = columns >= kHalf;
    auto* to = whole ? reinterpret_cast<std::uint16_t*>(p.to) : edge;
    for (std::int64_t i = 0; i < kHalf; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      Tiles::store_bf16(hn::Add(Total(d, p, i), hn::Load(d, p.bias + p.half + i)), to + i);
    }
    if (!whole && columns > 0) std::memcpy(p.to, edge, static_cast<std::size_t>(columns) * sizeof(std::uint16_t));
    p.to += p.half == 0 ? 2 * kHalf : p.row_bytes - 2 * kHalf;
    NextHalf(p);
  }
};

// What is drawn in during a slice.
struct Ahead {
  const std::byte* at;
  std::int64_t lines;       // into L2 at each step
  bool near;                // rather the slice's own weights into L1, some steps before their use
  const std::byte* sums;    // where the products are sums: those lines, which the next block stores
  std::int64_t sums_lines;  // at each step
};

// Where a tile of a block's products lies.
constexpr std::int64_t kFloatBytes = static_cast<std::int64_t>(sizeof(float));
constexpr std::int64_t kProductStride = kPanelWidth * kFloatBytes;
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
template <class Tiles, int kRowTiles, class Work>
HWY_INLINE void Product(const std::byte* a, const AmxSlice& slice, bool backward, Ahead ahead, float* c, float*& open,
                        Work work) {
  constexpr std::int64_t kRowStride = 2 * kTileK;         // bytes
  constexpr std::int64_t kPanelStride = 4 * kPanelWidth;  // bytes: a pair of k of 32 columns
  constexpr std::int64_t kSecond = kPanelStride / 2;      // the panel's second 16 columns
  constexpr std::int64_t kNearBytes = 4 * kStepBytes;
  constexpr std::int64_t kRowBytes = kRowTiles * kTileBytes;
  const std::int64_t last = slice.steps - 1;
  const std::int64_t sign = backward ? -1 : 1;
  if constexpr (kRowTiles == 1) Close<Tiles>(open);
  float* const before = open;
  const auto draw_in = [&](std::int64_t lines) HWY_ATTR __attribute__((always_inline)) {
    for (; lines > 0; --lines, ahead.at += kLineBytes) Tiles::prefetch(ahead.at);
  };
  // Each product shares an operand with the one before, and each load and product is followed by a pause.
  const auto step = [&]<bool kFirst>(const std::byte* b) HWY_ATTR __attribute__((always_inline)) {
    const auto multiply = [&]<int kC, int kA, int kB>() HWY_ATTR __attribute__((always_inline)) {
      if constexpr (kFirst) {
        if (before) Tiles::template store<kC>(before + offset_of(kC), kProductStride);
        Tiles::template zero<kC>();
      }
      Tiles::template multiply<kC, kA, kB>();
      Tiles::pause();
    };
    // The pending block is stored in the first step, but its first lines only just.
    const auto work_after = [&]<int kProduct>() HWY_ATTR __attribute__((always_inline)) {
      if constexpr (!kFirst) work.template after<kProduct>();
    };
    if constexpr (!kFirst) work.begin_step();
    if (kRowTiles == 1 && ahead.near) {
      for (std::int64_t i = 0; i < kStepBytes; i += kLineBytes) Tiles::prefetch_near(b + kNearBytes + i);
    }
    Tiles::template load_once<4>(a, kRowStride);
    Tiles::template load<6>(b, kPanelStride);
    Tiles::pause();
    if constexpr (kRowTiles == 2) {
      Tiles::template load_once<5>(a + kTileBytes, kRowStride);
      Tiles::pause();
    }
    Tiles::template load<7>(b + kSecond, kPanelStride);
    Tiles::pause();
    multiply.template operator()<0, 4, 6>();
    work_after.template operator()<0>();
    draw_in(ahead.lines / 2);
    if constexpr (kRowTiles == 2) multiply.template operator()<2, 5, 6>();
    work_after.template operator()<1>();
    if constexpr (kRowTiles == 2) multiply.template operator()<3, 5, 7>();
    work_after.template operator()<2>();
    draw_in(ahead.lines - ahead.lines / 2);
    multiply.template operator()<1, 4, 7>();
    work_after.template operator()<3>();
    for (std::int64_t i = ahead.sums_lines; i > 0; --i, ahead.sums += kLineBytes) Tiles::prefetch_write(ahead.sums);
    a += sign * kRowBytes;
  };
  if (backward) a += last * kRowBytes;
  step.template operator()<true>(backward || last == 0 ? slice.last : slice.weights);
  const std::byte* b = slice.weights + (backward ? last - 1 : 1) * kStepBytes;
  const std::byte* const end = backward ? slice.weights : slice.last;
  for (std::int64_t left = last; left > 0; --left, b += sign * kStepBytes) {
    step.template operator()<false>(left == 1 ? end : b);
  }
  if (last == 0) Work::finish(work);
  open = c;
  if constexpr (kRowTiles == 1) {
    Tiles::template store<0>(c + offset_of(0), kProductStride);
    Tiles::template store<1>(c + offset_of(1), kProductStride);
    open = nullptr;
  }
}

// A slice times every pair of rows of the pass. place(pair) says where the products go, as pending work; without rows
// they are final as they are, in `sums`. All products share one buffer: a block's are stored at the beginning of the
// next and used up during it.
template <class Tiles, class Row, class Place>
HWY_INLINE void SliceOverRows(AmxPass& pass, std::int64_t k, const AmxSlice& slice, const Place& place) {
  const std::int64_t pairs = pass.rows.pairs();
  Ahead ahead{};
  ahead.at = slice.ahead;
  ahead.near = pass.rows.rows <= kTileHeight;
  if (!ahead.near) ahead.lines = ceil_div(slice.ahead_bytes / kLineBytes, pairs * slice.steps);
  const Row row;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    AmxPending next = place(pair);
    float* c = next.rows == 0 ? next.sums : pass.block;
    next.c = c;
    ahead.sums = reinterpret_cast<const std::byte*>(c);
    ahead.sums_lines = next.rows == 0 ? ceil_div(kBlockFloats * kFloatBytes / kLineBytes, slice.steps) : 0;
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
    ahead.at += ahead.lines * kLineBytes * slice.steps;
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
