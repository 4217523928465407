#include "core/numeric.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace fusedmlp::core {
namespace {

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

// The value a 16-bit pattern stands for, from the definition of the format.
double value_of(std::uint16_t pattern, int mantissa_bits, int bias) {
  const int exponent_bits = 15 - mantissa_bits;
  const int exponent = (pattern >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = pattern & ((1 << mantissa_bits) - 1);
  const double sign = (pattern & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

// Rounds to nearest, ties to even, from the definition of the format. `value` is finite.
double rounded(double value, int mantissa_bits, int least_exponent, double largest) {
  if (value == 0) return value;
  const int exponent = std::max(std::ilogb(value), least_exponent);
  const double unit = std::ldexp(1.0, exponent - mantissa_bits);
  const double result = std::nearbyint(value / unit) * unit;
  return std::abs(result) > largest ? std::copysign(std::numeric_limits<double>::infinity(), value) : result;
}

TEST(Numeric, EveryF16PatternReadsAsItsValue) {
  for (std::uint32_t p = 0; p < 65536; ++p) {
    const std::uint16_t pattern = static_cast<std::uint16_t>(p);
    const double expected = value_of(pattern, 10, 15);
    const float got = f16_to_float(pattern);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << p;
      ASSERT_EQ(std::signbit(got), (p & 0x8000u) != 0) << p;
      ASSERT_EQ(bits(got) & 0x00400000u, 0x00400000u) << p << " is not quiet";
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), expected) << p;
    ASSERT_EQ(std::signbit(got), (p & 0x8000u) != 0) << p;
    ASSERT_EQ(float_to_f16(got), pattern) << "round trip";
  }
}

TEST(Numeric, EveryBf16PatternReadsAsItsValue) {
  for (std::uint32_t p = 0; p < 65536; ++p) {
    const std::uint16_t pattern = static_cast<std::uint16_t>(p);
    const double expected = value_of(pattern, 7, 127);
    const float got = bf16_to_float(pattern);
    ASSERT_EQ(bits(got), p << 16);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got));
      const std::uint16_t back = float_to_bf16(got);
      ASSERT_EQ(back, pattern | 0x0040u) << "quiet, sign and payload kept";
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), expected) << p;
    ASSERT_EQ(float_to_bf16(got), pattern) << "round trip";
  }
}

// Around every 16-bit value and every midpoint between neighbours: the value itself, just below, just above.
template <class Convert, class Check>
void sweep_neighbourhoods(Convert to_float, Check check) {
  for (std::uint32_t p = 0; p < 0x8000u; ++p) {
    const float here = to_float(static_cast<std::uint16_t>(p));
    const float next = to_float(static_cast<std::uint16_t>(p + 1));
    if (!std::isfinite(here)) return;
    const double top = std::isfinite(next) ? static_cast<double>(next) : 2.0 * static_cast<double>(here);
    const float middle = static_cast<float>((static_cast<double>(here) + top) / 2);
    for (const float center : {here, middle}) {
      for (const float value : {std::nextafter(center, -1e38f), center, std::nextafter(center, 1e38f)}) {
        check(value);
        check(-value);
      }
    }
  }
}

TEST(Numeric, F16RoundsToNearestEven) {
  int checked = 0;
  sweep_neighbourhoods(f16_to_float, [&](float value) {
    ++checked;
    const double expected = rounded(static_cast<double>(value), 10, -14, 65504.0);
    const float got = f16_to_float(float_to_f16(value));
    ASSERT_EQ(static_cast<double>(got), expected) << value;
    ASSERT_EQ(std::signbit(got), std::signbit(value)) << value;
  });
  EXPECT_EQ(checked, 0x7c00 * 12);
}

TEST(Numeric, Bf16RoundsToNearestEven) {
  int checked = 0;
  sweep_neighbourhoods(bf16_to_float, [&](float value) {
    if (!std::isfinite(value)) return;
    ++checked;
    const double expected = rounded(static_cast<double>(value), 7, -126, 0x1.fep127);
    ASSERT_EQ(static_cast<double>(bf16_to_float(float_to_bf16(value))), expected) << value;
  });
  EXPECT_GT(checked, 0x7f80 * 11);
}

TEST(Numeric, AgreesWithTheCompilersF16) {
#ifdef __FLT16_MAX__
  for (std::uint64_t step = 0; step < (std::uint64_t{1} << 32); step += 4099) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(step));
    if (std::isnan(value)) continue;
    const std::uint16_t theirs = std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
    ASSERT_EQ(float_to_f16(value), theirs) << value;
    ASSERT_EQ(bits(f16_to_float(theirs)), bits(static_cast<float>(std::bit_cast<_Float16>(theirs)))) << value;
  }
#else
  GTEST_SKIP() << "this compiler has no _Float16; the definition of the format is tested above";
#endif
}

TEST(Numeric, EdgesOfTheRanges) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(float_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(inf), 0x7c00);
  EXPECT_EQ(float_to_f16(-inf), 0xfc00);
  EXPECT_EQ(float_to_f16(0x1p-24f), 0x0001);
  EXPECT_EQ(float_to_f16(0x1p-25f), 0x0000);  // a tie, to even
  EXPECT_EQ(float_to_f16(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(float_to_f16(-0.0f), 0x8000);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(float_to_bf16(inf), 0x7f80);
  EXPECT_EQ(float_to_bf16(-0.0f), 0x8000);
  for (const std::uint32_t pattern : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const float nan = std::bit_cast<float>(pattern);
    EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(nan)))) << pattern;
    EXPECT_EQ(float_to_f16(nan) >> 15, pattern >> 31);
    EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(nan)))) << pattern;
    EXPECT_EQ(float_to_bf16(nan) >> 15, pattern >> 31);
  }
}

TEST(Numeric, LoadAndStoreFollowTheType) {
  float f[2] = {};
  std::uint16_t h[2] = {};
  store(DType::f32, f, 1, 0.1f);
  EXPECT_EQ(load(DType::f32, f, 1), 0.1f);
  store(DType::bf16, h, 1, 0.1f);
  EXPECT_EQ(load(DType::bf16, h, 1), 0.10009765625f);
  store(DType::f16, h, 1, 0.1f);
  EXPECT_EQ(load(DType::f16, h, 1), 0.0999755859375f);
  EXPECT_EQ(h[0], 0);
  EXPECT_EQ(f[0], 0.0f);
}

}  // namespace
}  // namespace fusedmlp::core
