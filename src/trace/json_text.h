// Steps over JSON text that may be damaged or cut.
//
// Kineto writes its files by hand and has let through quotes, backslashes and control characters in strings, NaN, and
// integers over 64 bits. So strings may hold any byte, numbers stay text until somebody wants them, and every step
// says where it failed: at the end of the text (cut: more text may help) or before it (malformed).
#pragma once

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace fusedmlp::trace {

// The text is followed by this many readable bytes, the first of them 0.
inline constexpr std::size_t kTextPadding = 16;

struct TextCursor {
  const char* p = nullptr;
  const char* end = nullptr;

  bool cut() const { return p >= end; }
  void skip_space() {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
  }
  bool take(char c) {
    if (*p != c || p >= end) return false;
    ++p;
    return true;
  }
};

// After success p is behind the item; after failure where it went wrong.

// p at the opening quote. `out`: between the quotes, escapes as they are.
inline bool take_string(TextCursor& c, std::string_view& out, bool& escaped) {
  if (!c.take('"')) return false;
  const char* const begin = c.p;
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  escaped = false;
  while (c.p < c.end) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(c.p));
    const int hits = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)));
    if (hits == 0) {
      c.p += 16;
      continue;
    }
    c.p += __builtin_ctz(static_cast<unsigned>(hits));
    if (c.p >= c.end) break;
    if (*c.p == '"') {
      out = std::string_view(begin, static_cast<std::size_t>(c.p - begin));
      ++c.p;
      return true;
    }
    escaped = true;
    c.p += 2;
  }
  c.p = c.end;
  return false;
}

// A number, true, false, null, NaN, -Infinity. Must be followed by something: at the end of the text it may go on.
inline bool take_scalar(TextCursor& c, std::string_view& out) {
  const char* const begin = c.p;
  const auto belongs = [](unsigned char b) {
    return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '.' || b == '-' ||
           b == '+';
  };
  while (belongs(static_cast<unsigned char>(*c.p))) ++c.p;
  if (c.p >= c.end || c.p == begin) return false;
  out = std::string_view(begin, static_cast<std::size_t>(c.p - begin));
  return true;
}

// Any value; `out` is its text.
bool take_value(TextCursor& c, std::string_view& out);

// Text with JSON's escapes; an invalid escape stays as it is.
std::string unescape(std::string_view text);

// The whole text as an integer; a fraction of zeros is allowed. False, and `out` unchanged: not one, or over int64.
bool parse_int(std::string_view text, std::int64_t& out);

// Decimal microseconds to nanoseconds, exactly, rounded half away from zero. False: no number, or over int64.
bool parse_microseconds(std::string_view text, std::int64_t& out);

}  // namespace fusedmlp::trace
