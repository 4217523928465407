// The report for a terminal.
#include <algorithm>
#include <cstdint>

#include "core/format.h"
#include "fusedmlp/report.h"
#include "report/figures.h"
#include "report/text.h"
#include "report/wording.h"
#include "trace/kernel_name.h"

namespace fusedmlp {
inline namespace v0 {
namespace {

using report::Align;
using report::Cell;
using report::Style;

// Columns from which there is room for words in full.
constexpr int kWide = 104;

std::string tokens_text(const MlpRow& row) { return row.tokens ? core::format("{}", *row.tokens) : "?"; }

const char* call_text(report::Call call, bool wide) {
  switch (call) {
    case report::Call::fuse: return "fuse";
    case report::Call::leave: return wide ? "do not fuse" : "leave";
    case report::Call::fused_already: return "fused";
    case report::Call::uncompared: return wide ? "cannot be told" : "?";
    case report::Call::unknown: return wide ? "not predicted" : "?";
  }
  return "?";
}

void put_rows(report::Page& page, const Analysis& analysis) {
  const bool wide = page.width() >= kWide;
  std::vector<std::vector<Cell>> rows;
  rows.push_back({{"#"},
                  {"MLP"},
                  {"tokens"},
                  {wide ? "times" : "n"},
                  {wide ? "launches" : "k"},
                  {"time"},
                  {"gap"},
                  {"bound by"},
                  {"fused"},
                  {"verdict"}});
  for (std::size_t i = 0; i < analysis.mlps.size(); ++i) {
    const MlpRow& row = analysis.mlps[i];
    const bool fuse = row.verdict == Verdict::fuse;
    rows.push_back({{core::format("{}", i + 1)},
                    {report::name_text(row)},
                    {tokens_text(row)},
                    {core::format("{}", row.instances)},
                    {report::launches_text(row.launches_per_instance)},
                    {report::time_text(row.us_per_instance)},
                    {report::time_text(row.gap_us_per_instance)},
                    {row.regime ? to_string(*row.regime) : "?"},
                    {report::time_text(row.predicted_us)},
                    {call_text(report::call_of(row), wide), fuse ? Style::good : Style::plain}});
  }
  using enum Align;
  page.table(rows, {right, left, right, right, right, right, right, left, right, left}, 1);
  page.note(wide ? "time, gap and fused are of one instance: kernels, idle time between them, predicted when fused"
                 : "n: times it ran; k: launches; time, gap, fused: of one instance (kernels, idle time between "
                   "them, predicted when fused)");
}

// As many changed names as a reader takes in.
constexpr std::size_t kNames = 12;

std::string count_and_time(std::int64_t count, double us) {
  return count == 0 ? "-" : core::format("{} x {}", count, report::time_text(us / static_cast<double>(count)));
}

void put_changes(report::Page& page, const std::vector<KernelChange>& changes) {
  std::vector<std::vector<Cell>> rows{{{"kernel"}, {"A"}, {"B"}, {""}}};
  for (std::size_t i = 0; i < std::min(kNames, changes.size()); ++i) {
    const KernelChange& change = changes[i];
    const std::string words = trace::decode(change.name).words;
    rows.push_back({{report::clean(words.empty() ? change.name : words)},
                    {count_and_time(change.count_a, change.us_a)},
                    {count_and_time(change.count_b, change.us_b)},
                    {change.count_a == 0   ? "came"
                     : change.count_b == 0 ? "went"
                                           : ""}});
  }
  using enum Align;
  page.table(rows, {left, right, right, left}, 0);
  if (changes.size() > kNames) {
    page.note(core::format("and {} more, with less time between them", changes.size() - kNames));
  }
}

}  // namespace

std::string to_text(const Analysis& analysis, const TextOptions& options) {
  report::Page page(options);
  page.title(report::clean(analysis.path));
  page.heading(report::headline(analysis));
  for (const std::string& line : report::summary(analysis)) page.paragraph(line);
  if (!analysis.mlps.empty()) {
    page.blank();
    put_rows(page, analysis);
    page.blank();
  }
  for (const report::Advice& item : report::advice(analysis)) page.item(item.title, item.text);
  if (analysis.used.peak_flops || analysis.used.peak_bandwidth) {
    std::string rates;
    if (analysis.used.peak_flops) rates += report::rate_text(*analysis.used.peak_flops, "FLOP/s");
    if (analysis.used.peak_bandwidth) {
      rates += (rates.empty() ? "" : ", ") + report::rate_text(*analysis.used.peak_bandwidth, "B/s");
    }
    page.item("Device", core::format("{}: {} ({})", report::device_text(analysis.used), rates,
                                     report::clean(analysis.used.basis)));
  }
  for (const std::string& warning : analysis.warnings) page.warning(report::clean(warning));
  return page.take();
}

std::string to_text(const Comparison& comparison, const TextOptions& options) {
  report::Page page(options);
  page.heading(report::headline(comparison));
  for (const std::string& line : report::summary(comparison)) page.paragraph(line);
  if (!comparison.mlps.empty()) page.blank();
  for (std::size_t i = 0; i < comparison.mlps.size(); ++i) {
    const ComparedMlp& pair = comparison.mlps[i];
    page.item(core::format("{} {}", report::number_text(i), report::name_text(pair.a ? *pair.a : *pair.b)),
              pair.change);
  }
  if (!comparison.kernels.empty()) {
    page.blank();
    put_changes(page, comparison.kernels);
  }
  for (const Analysis* side : {&comparison.a, &comparison.b}) {
    for (const std::string& warning : side->warnings) {
      page.warning(core::format("{}: {}", report::clean(side->path), report::clean(warning)));
    }
  }
  return page.take();
}

}  // namespace v0
}  // namespace fusedmlp
