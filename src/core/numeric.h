// Conversions between storage types and float, and reading a typed buffer element by element.
#pragma once

#include <bit>
#include <cstdint>

#include "fusedmlp/spec.h"

namespace fusedmlp::core {

inline float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// Round to nearest even; NaN stays a quiet NaN with its sign.
inline std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Exact; a NaN is made quiet, as the hardware does. Without branches, so that loops over it become vector code.
inline float f16_to_float(std::uint16_t bits) noexcept {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  const std::uint32_t normal = (magnitude << 13) + (112u << 23);
  // Subnormals: the mantissa is put below a leading 2^-14, which is then taken away.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>((magnitude << 13) + (113u << 23)) - 0x1p-14f);
  const std::uint32_t quiet = magnitude > 0x7c00u ? 0x00400000u : 0u;
  const std::uint32_t special = (magnitude << 13) | 0x7f800000u | quiet;
  const std::uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
  return std::bit_cast<float>(sign | (magnitude >= 0x7c00u ? special : finite));
}

std::uint16_t float_to_f16(float value) noexcept;  // round to nearest even, overflow to inf, subnormals kept

inline float load(DType dtype, const void* data, std::int64_t index) {
  switch (dtype) {
    case DType::f32: return static_cast<const float*>(data)[index];
    case DType::bf16: return bf16_to_float(static_cast<const std::uint16_t*>(data)[index]);
    case DType::f16: return f16_to_float(static_cast<const std::uint16_t*>(data)[index]);
  }
  return 0;
}

inline void store(DType dtype, void* data, std::int64_t index, float value) {
  switch (dtype) {
    case DType::f32: static_cast<float*>(data)[index] = value; break;
    case DType::bf16: static_cast<std::uint16_t*>(data)[index] = float_to_bf16(value); break;
    case DType::f16: static_cast<std::uint16_t*>(data)[index] = float_to_f16(value); break;
  }
}

}  // namespace fusedmlp::core
