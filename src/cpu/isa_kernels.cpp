#include "cpu/isa_kernels.h"

#include <array>
#include <cstring>
#include <utility>

// Highway is used header-only, with two targets: AVX2 and AVX-512 (F, BW, CD, DQ, VL). Naming AVX2 as the
// baseline only tells Highway which target closes the list; nothing runs before the CPU was asked.
#define HWY_BASELINE_TARGETS HWY_AVX2
#define HWY_DISABLED_TARGETS (~(HWY_AVX2 | HWY_AVX3))
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/isa_kernels.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/row-inl.h"
#include "cpu/tile-inl.h"
#include "cpu/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fusedmlp::cpu {
namespace HWY_NAMESPACE {

template <Activation kActivation>
void HiddenRows(const MlpSpec& spec, const float* c, const float* bias, float* hidden, std::int64_t ldh, int rows) {
  const FloatTag d;
  const VF bias0 = hn::Load(d, bias);
  const VF bias1 = hn::Load(d, bias + kLanes);
  if (spec.gated) {
    for (int r = 0; r < rows; ++r, c += 2 * kLanes, hidden += ldh) {
      const VF gate = hn::Add(hn::Load(d, c), bias0);
      const VF up = hn::Add(hn::Load(d, c + kLanes), bias1);
      hn::StoreU(Gated<kActivation>(d, gate, up, spec.alpha, spec.limit), d, hidden);
    }
    return;
  }
  for (int r = 0; r < rows; ++r, c += 2 * kLanes, hidden += ldh) {
    hn::StoreU(Activate<kActivation>(d, hn::Add(hn::Load(d, c), bias0)), d, hidden);
    hn::StoreU(Activate<kActivation>(d, hn::Add(hn::Load(d, c + kLanes), bias1)), d, hidden + kLanes);
  }
}

template <Activation kActivation>
void ActivateRange(const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n) {
  const FloatTag d;
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const VF g = hn::LoadU(d, gate + i);
    hn::StoreU(spec.gated ? Gated<kActivation>(d, g, hn::LoadU(d, up + i), spec.alpha, spec.limit)
                          : Activate<kActivation>(d, g),
               d, out + i);
  }
}

using HiddenFn = decltype(&HiddenRows<Activation::identity>);
using ActivateFn = decltype(&ActivateRange<Activation::identity>);

template <int... kIndex>
constexpr auto HiddenTable(std::integer_sequence<int, kIndex...>) {
  return std::array<HiddenFn, sizeof...(kIndex)>{&HiddenRows<static_cast<Activation>(kIndex)>...};
}
template <int... kIndex>
constexpr auto ActivateTable(std::integer_sequence<int, kIndex...>) {
  return std::array<ActivateFn, sizeof...(kIndex)>{&ActivateRange<static_cast<Activation>(kIndex)>...};
}

void Hidden(const MlpSpec& spec, const float* c, const float* bias, float* hidden, std::int64_t ldh, int rows) {
  static constexpr auto kTable = HiddenTable(std::make_integer_sequence<int, kActivationCount>());
  kTable[static_cast<std::size_t>(spec.activation)](spec, c, bias, hidden, ldh, rows);
}

void ActivateAll(const MlpSpec& spec, const float* gate, const float* up, float* out, std::int64_t n) {
  static constexpr auto kTable = ActivateTable(std::make_integer_sequence<int, kActivationCount>());
  kTable[static_cast<std::size_t>(spec.activation)](spec, gate, up, out, n);
}

// Round to nearest even; NaN stays NaN (its payload is cut, the quiet bit set).
HWY_INLINE void StoreAs(VF v, float* to) { hn::StoreU(v, FloatTag(), to); }
HWY_INLINE void StoreAs(VF v, hwy::bfloat16_t* to) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::RebindToSigned<FloatTag> di;
  const hn::Rebind<std::uint16_t, FloatTag> d16;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(bits, hn::Add(hn::Set(du, 0x7fffu), odd));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x00400000u));
  const auto is_number = hn::MaskFromVec(hn::BitCast(du, hn::VecFromMask(d, hn::Eq(v, v))));
  const auto high = hn::ShiftRight<16>(hn::IfThenElse(is_number, rounded, quiet));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, high)), d16, reinterpret_cast<std::uint16_t*>(to));
}
HWY_INLINE void StoreAs(VF v, hwy::float16_t* to) {
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  hn::StoreU(hn::DemoteTo(dh, v), dh, to);
}

template <class T>
void StoreRows(const float* c, const float* bias, T* y, std::int64_t ldy, int rows, int cols) {
  const FloatTag d;
  const VF bias0 = bias ? hn::Load(d, bias) : hn::Zero(d);
  const VF bias1 = bias ? hn::Load(d, bias + kLanes) : hn::Zero(d);
  for (int r = 0; r < rows; ++r, c += 2 * kLanes, y += ldy) {
    const VF v0 = hn::Add(hn::Load(d, c), bias0);
    const VF v1 = hn::Add(hn::Load(d, c + kLanes), bias1);
    if (cols == 2 * kLanes) {
      StoreAs(v0, y);
      StoreAs(v1, y + kLanes);
    } else {
      alignas(64) T edge[2 * kLanes];
      StoreAs(v0, edge);
      StoreAs(v1, edge + kLanes);
      std::memcpy(y, edge, static_cast<std::size_t>(cols) * sizeof(T));
    }
  }
}

void StoreY(DType dtype, const float* c, const float* bias, void* y, std::int64_t ldy, int rows, int cols) {
  switch (dtype) {
    case DType::f32: return StoreRows(c, bias, static_cast<float*>(y), ldy, rows, cols);
    case DType::bf16: return StoreRows(c, bias, static_cast<hwy::bfloat16_t*>(y), ldy, rows, cols);
    case DType::f16: return StoreRows(c, bias, static_cast<hwy::float16_t*>(y), ldy, rows, cols);
  }
}

HWY_INLINE VF WidenAt(const hwy::bfloat16_t* from) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::Rebind<std::uint16_t, FloatTag> d16;
  const auto half = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
}
HWY_INLINE VF WidenAt(const hwy::float16_t* from) {
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  return hn::PromoteTo(FloatTag(), hn::LoadU(dh, from));
}

template <class T>
void WidenRange(const T* in, float* out, std::int64_t n) {
  const FloatTag d;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(WidenAt(in + i), d, out + i);
  if (i == n) return;
  T edge[kLanes] = {};
  float wide[kLanes];
  const auto left = static_cast<std::size_t>(n - i);
  std::memcpy(edge, in + i, left * sizeof(T));
  hn::StoreU(WidenAt(edge), d, wide);
  std::memcpy(out + i, wide, left * sizeof(float));
}

void Widen(DType dtype, const void* in, float* out, std::int64_t n) {
  switch (dtype) {
    case DType::f32: std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(float)); return;
    case DType::bf16: return WidenRange(static_cast<const hwy::bfloat16_t*>(in), out, n);
    case DType::f16: return WidenRange(static_cast<const hwy::float16_t*>(in), out, n);
  }
}

template <class Panel, int... kIndex>
void FillTiles(IsaKernels::Tile* row, std::integer_sequence<int, kIndex...>) {
  ((row[kIndex] = &Tile<kIndex + 1, Panel>), ...);
}

IsaKernels MakeKernels(Isa isa) {
  IsaKernels table{isa,     kLanes,  kTileRows, {},          {&Row<PanelF32>, &Row<PanelBF16>, &Row<PanelF16>},
                   &Hidden, &StoreY, &Widen,    &ActivateAll};
  constexpr auto kRows = std::make_integer_sequence<int, kTileRows>();
  FillTiles<PanelF32>(table.tile[static_cast<int>(DType::f32)], kRows);
  FillTiles<PanelBF16>(table.tile[static_cast<int>(DType::bf16)], kRows);
  FillTiles<PanelF16>(table.tile[static_cast<int>(DType::f16)], kRows);
  return table;
}

}  // namespace HWY_NAMESPACE
}  // namespace fusedmlp::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fusedmlp::cpu {

// Each table is made by code of its own target, so only when that target is asked for.
const IsaKernels* isa_kernels(Isa isa) {
  switch (isa) {
    case Isa::amx:  // its tiles are another table, amx_kernels.h
    case Isa::avx512: {
      static const IsaKernels table = N_AVX3::MakeKernels(Isa::avx512);
      return &table;
    }
    case Isa::avx2: {
      static const IsaKernels table = N_AVX2::MakeKernels(Isa::avx2);
      return &table;
    }
    case Isa::generic: break;
  }
  return nullptr;
}

}  // namespace fusedmlp::cpu
#endif
