// Numbers and untrusted text, as every report writes them.
#include <cmath>
#include <cstdlib>

#include "core/format.h"
#include "report/wording.h"

namespace fusedmlp::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the well-formed UTF-8 sequence at the start of `text` (RFC 3629: no overlong forms, no surrogates, at
// most U+10FFFF); 0 when there is none.
std::size_t sequence_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto tail = [&](std::size_t i) { return (at(i) & 0xC0u) == 0x80u; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (first == 0xE0 && at(1) < 0xA0) return 0;
    if (first == 0xED && at(1) > 0x9F) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (first == 0xF0 && at(1) < 0x90) return 0;
    if (first == 0xF4 && at(1) > 0x8F) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

// Three significant digits of a positive number below 1000.
std::string three_digits(double value) {
  if (value < 9.995) return core::format("{:.2f}", value);
  if (value < 99.95) return core::format("{:.1f}", value);
  return core::format("{:.0f}", value);
}

}  // namespace

std::string clean(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    const bool c1 = length == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
    if (first == '\n' || first == '\r' || first == '\t') {
      out += ' ';
    } else if (length == 0 || first < 0x20 || first == 0x7F || c1) {
      out += kReplacement;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string_view unit_at(std::string_view text) {
  for (const std::string_view unit : {"%", "ns", "us", "ms", "s", "B", "kB", "MB", "GB", "TB"}) {
    if (!text.starts_with(unit)) continue;
    const std::string_view after = text.substr(unit.size());
    if (after.empty() || std::string_view(" .,;:)").find(after[0]) != after.npos) return unit;
  }
  return "";
}

std::string time_text(double us) {
  if (!std::isfinite(us)) return "-";
  const std::string sign = us < 0 ? "-" : "";
  const double size = std::abs(us);
  if (size < 0.0005) return "0 us";
  if (size < 0.9995) return sign + core::format("{:.0f} ns", size * 1e3);
  if (size < 999.5) return sign + three_digits(size) + " us";
  if (size < 999.5e3) return sign + three_digits(size * 1e-3) + " ms";
  if (size < 999.5e6) return sign + three_digits(size * 1e-6) + " s";
  return sign + core::format("{:.0f} s", size * 1e-6);
}

std::string time_text(const std::optional<double>& us, std::string_view unknown) {
  return us ? time_text(*us) : std::string(unknown);
}

std::string count_text(std::int64_t count) {
  std::string out = core::format("{}", count);
  const std::ptrdiff_t first = count < 0 ? 1 : 0;
  for (std::ptrdiff_t i = std::ssize(out) - 3; i > first; i -= 3) out.insert(static_cast<std::size_t>(i), 1, ',');
  return out;
}

std::string share_text(double part, double all) {
  if (!(all > 0) || !std::isfinite(part)) return "";
  const double percent = 100 * part / all;
  if (percent > 0 && percent < 0.95) return "under 1 %";
  return core::format("{:.0f} %", percent);
}

std::string bytes_text(double bytes) {
  if (!std::isfinite(bytes)) return "-";
  for (const auto& [unit, size] : {std::pair{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}}) {
    if (bytes >= 0.9995 * size) return three_digits(bytes / size) + " " + unit;
  }
  return core::format("{:.0f} B", bytes);
}

std::string rate_text(double per_second, std::string_view unit) {
  if (!std::isfinite(per_second)) return "-";
  for (const auto& [prefix, size] : {std::pair{"P", 1e15}, {"T", 1e12}, {"G", 1e9}, {"M", 1e6}}) {
    if (per_second >= 0.9995 * size) return core::format("{} {}{}", three_digits(per_second / size), prefix, unit);
  }
  return core::format("{:.0f} {}", per_second, unit);
}

std::string plural(std::int64_t count, std::string_view one, std::string_view many) {
  const std::string other = many.empty() ? std::string(one) + "s" : std::string(many);
  return count_text(count) + " " + (count == 1 ? std::string(one) : other);
}

std::string launches_text(double launches) {
  return std::abs(launches - std::round(launches)) < 0.05 ? core::format("{:.0f}", launches)
                                                          : core::format("{:.1f}", launches);
}

}  // namespace fusedmlp::report
