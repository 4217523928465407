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

float f16_to_float(std::uint16_t bits) noexcept;
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
