#include "trace/json_text.h"

#include <limits>

namespace fusedmlp::trace {
namespace {

constexpr int kDeepest = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The four hex digits at `at`, or -1.
int hex4(std::string_view text, std::size_t at) {
  if (at + 4 > text.size()) return -1;
  int value = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    const char c = text[i];
    const int digit = is_digit(c)            ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

void append_utf8(std::string& to, std::uint32_t code) {
  if (code < 0x80) {
    to += static_cast<char>(code);
  } else if (code < 0x800) {
    to += static_cast<char>(0xc0 | (code >> 6));
    to += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    to += static_cast<char>(0xe0 | (code >> 12));
    to += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    to += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    to += static_cast<char>(0xf0 | (code >> 18));
    to += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    to += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    to += static_cast<char>(0x80 | (code & 0x3f));
  }
}

// parse_scaled() for what nearly every number is: digits, perhaps a point and at most `shift` more, no overflow near.
bool parse_plain(std::string_view text, int shift, std::int64_t& out) {
  constexpr std::size_t kSafeDigits = 15;
  std::size_t i = 0;
  std::int64_t value = 0;
  for (; i < text.size() && is_digit(text[i]); ++i) {
    if (i == kSafeDigits) return false;
    value = value * 10 + (text[i] - '0');
  }
  if (i == 0) return false;
  if (i < text.size() && text[i] == '.') {
    for (++i; i < text.size() && is_digit(text[i]) && shift > 0; ++i, --shift) value = value * 10 + (text[i] - '0');
  }
  if (i != text.size()) return false;
  for (; shift > 0; --shift) value *= 10;
  out = value;
  return true;
}

// Decimal text times 10^`shift`, rounded half away from zero.
bool parse_scaled(std::string_view text, int shift, std::int64_t& out) {
  std::size_t i = 0;
  const bool negative = !text.empty() && text[0] == '-';
  if (negative || (!text.empty() && text[0] == '+')) ++i;
  // Digits without their point, then the power of ten they are worth.
  const std::size_t first = i;
  std::size_t point = std::string_view::npos;
  while (i < text.size() && (is_digit(text[i]) || (text[i] == '.' && point == std::string_view::npos))) {
    if (text[i] == '.') point = i;
    ++i;
  }
  const std::size_t last = i;
  std::size_t integer_digits = (point == std::string_view::npos ? last : point) - first;
  if (last - first == (point == std::string_view::npos ? 0u : 1u)) return false;
  std::int64_t exponent = shift;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    const bool minus = i < text.size() && text[i] == '-';
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    if (i >= text.size()) return false;
    std::int64_t value = 0;
    for (; i < text.size() && is_digit(text[i]); ++i) value = value < 10000 ? value * 10 + (text[i] - '0') : value;
    exponent += minus ? -value : value;
  }
  if (i != text.size()) return false;

  // `keep`: how many of the digits are left of the shifted point.
  const std::int64_t keep = static_cast<std::int64_t>(integer_digits) + exponent;
  constexpr std::uint64_t kLimit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t value = 0;
  std::int64_t index = 0;
  bool up = false;
  for (std::size_t at = first; at < last; ++at) {
    if (at == point) continue;
    const auto digit = static_cast<std::uint64_t>(text[at] - '0');
    if (index < keep) {
      if (value > (kLimit - digit) / 10) return false;
      value = value * 10 + digit;
    } else if (index == keep) {
      up = digit >= 5;
    }
    ++index;
  }
  for (; index < keep && value != 0; ++index) {
    if (value > kLimit / 10) return false;
    value *= 10;
  }
  if (up && value == kLimit) return false;
  value += up ? 1 : 0;
  out = negative ? -static_cast<std::int64_t>(value) : static_cast<std::int64_t>(value);
  return true;
}

}  // namespace

bool take_value(TextCursor& c, std::string_view& out) {
  const char* const begin = c.p;
  std::string_view ignored;
  bool escaped = false;
  std::uint64_t objects = 0;  // bit d: the container at depth d is an object
  int depth = 0;
  for (;;) {
    // A value.
    c.skip_space();
    if (*c.p == '"') {
      if (!take_string(c, ignored, escaped)) return false;
    } else if (*c.p == '{' || *c.p == '[') {
      if (depth == kDeepest) return false;
      const bool object = *c.p == '{';
      objects = (objects & ~(std::uint64_t{1} << depth)) | (std::uint64_t{object} << depth);
      ++depth;
      ++c.p;
      c.skip_space();
      if (!c.take(object ? '}' : ']')) {
        if (!object) continue;
        if (!take_string(c, ignored, escaped)) return false;
        c.skip_space();
        if (!c.take(':')) return false;
        continue;
      }
      --depth;
    } else if (!take_scalar(c, ignored)) {
      return false;
    }
    // What may follow it.
    for (;;) {
      if (depth == 0) {
        out = std::string_view(begin, static_cast<std::size_t>(c.p - begin));
        return true;
      }
      const bool object = ((objects >> (depth - 1)) & 1) != 0;
      c.skip_space();
      if (c.take(object ? '}' : ']')) {
        --depth;
        continue;
      }
      if (!c.take(',')) return false;
      if (object) {
        c.skip_space();
        if (!take_string(c, ignored, escaped)) return false;
        c.skip_space();
        if (!c.take(':')) return false;
      }
      break;
    }
  }
}

std::string unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char kind = text[++i];
    switch (kind) {
      case '"':
      case '\\':
      case '/': out += kind; break;
      case 'b': out += '\b'; break;
      case 'f': out += '\f'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case 'u': {
        const int high = hex4(text, i + 1);
        if (high < 0) {
          out += "\\u";
          break;
        }
        i += 4;
        auto code = static_cast<std::uint32_t>(high);
        if (code >= 0xd800 && code < 0xdc00 && text.substr(i + 1, 2) == "\\u") {
          const int low = hex4(text, i + 3);
          if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (static_cast<std::uint32_t>(low) - 0xdc00);
            i += 6;
          }
        }
        if (code >= 0xd800 && code < 0xe000) code = 0xfffd;  // half a pair: no character
        append_utf8(out, code);
        break;
      }
      default: out += '\\'; out += kind;
    }
  }
  return out;
}

bool parse_int(std::string_view text, std::int64_t& out) {
  if (parse_plain(text, 0, out)) return true;
  const std::size_t point = text.find('.');
  if (point != std::string_view::npos) {
    if (text.find_first_not_of('0', point + 1) != std::string_view::npos) return false;
    text = text.substr(0, point);
  }
  return parse_scaled(text, 0, out);
}

bool parse_microseconds(std::string_view text, std::int64_t& out) {
  return parse_plain(text, 3, out) || parse_scaled(text, 3, out);
}

}  // namespace fusedmlp::trace
