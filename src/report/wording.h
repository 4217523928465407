// The words of every report: names, numbers, summary and advice, the same in text, JSON and HTML.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fusedmlp/analysis.h"

namespace fusedmlp::report {

// Valid UTF-8 without control characters: invalid bytes become U+FFFD, line ends and tabs a space, other control
// characters (terminal escapes start with one) U+FFFD.
std::string clean(std::string_view text);

// "812 ns", "12.3 us", "4.56 ms", "1.23 s"; three digits.
std::string time_text(double us);
// The unit that `text` starts with, as these functions write them ("us", "%", "MB"); empty when it is none.
std::string_view unit_at(std::string_view text);
std::string time_text(const std::optional<double>& us, std::string_view unknown = "-");
std::string count_text(std::int64_t count);       // "12,345"
std::string share_text(double part, double all);  // "12 %"; "" when all is 0
std::string bytes_text(double bytes);
std::string rate_text(double per_second, std::string_view unit);  // "989 TFLOP/s"
std::string plural(std::int64_t count, std::string_view one, std::string_view many = {});

std::string widths_text(const MlpRow& row);  // "768x3072", "768x3072->1000", "unknown widths"
std::string name_text(const MlpRow& row);    // "geglu 768x3072 bf16, bias, backward, 8 experts (2 a token)"

// What to say of a row: its verdict, with the cases of not fusing that are no advice told apart. Uncompared:
// predicted, but the trace has no time to compare that with.
enum class Call { fuse, leave, fused_already, uncompared, unknown };
Call call_of(const MlpRow& row);

// A row's place in the table: "#1".
std::string number_text(std::size_t index);

// With a capital in front and a full stop behind.
std::string sentence(std::string text);

inline constexpr std::string_view kUnnamedGpu = "a GPU that the trace does not name";
// The device that limits and predictions are of; kUnnamedGpu where it has no name.
std::string device_text(const AnalyzedDevice& used);

// Whether the trace says of any row whether to fuse it, or all are fused already.
bool told(const Analysis& analysis);

// One sentence: what to do with this trace.
std::string headline(const Analysis& analysis);
// What is in it, in plain words; one sentence an entry.
std::vector<std::string> summary(const Analysis& analysis);

struct Advice {
  std::vector<std::size_t> rows;  // indices into Analysis::mlps: several where the same is to be said of them
  std::string title;
  std::string text;
};
// What to do about each row, then about the whole.
std::vector<Advice> advice(const Analysis& analysis);

// "1.54x faster", "1.20x slower", "no difference to speak of".
std::string ratio_text(double ratio);
// "6", or "6.3" for a mean.
std::string launches_text(double launches);

std::string headline(const Comparison& comparison);
std::vector<std::string> summary(const Comparison& comparison);

}  // namespace fusedmlp::report
