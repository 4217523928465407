// Pieces of the HTML page. Every function returns markup; text that came from outside goes through escape().
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fusedmlp/analysis.h"

namespace fusedmlp::report {

// Cleaned, and with & < > " ' as entities: safe between tags and within quoted attributes.
std::string escape(std::string_view text);

// The report's own sentences: escaped, and "12 us" as "12 µs".
std::string words(std::string_view text);

struct Section {
  const char* id;
  const char* link;  // in the list of sections
  const char* title;
  std::string body;
};

// A whole page. `lead` stands in the header under the headline.
std::string document(std::string_view headline, std::string_view subject, std::string_view lead,
                     const std::vector<Section>& sections);
std::string_view style_sheet();

// The last part of a path, without the endings of traces: how a variant is called.
std::string short_name(std::string_view path);

std::string verdict_badge(const MlpRow& row);
std::string tile(std::string_view label, std::string_view value, std::string_view note);
// A kernel's name as in the trace; a long one folded away.
std::string raw_name(std::string_view name);
std::string paragraphs(const std::vector<std::string>& sentences);

// Rows that get a part of their own.
inline constexpr std::size_t kArticles = 40;

// Sections of one analysis; empty where there is nothing to show.
std::string advice_list(const Analysis& analysis);
std::string mlp_table(const Analysis& analysis);
std::string breakdown_bars(const Analysis& analysis);
std::string mlp_articles(const Analysis& analysis);
std::string totals_table(const Analysis& analysis);
std::string warning_list(const std::vector<std::string>& warnings);
std::string reading_notes();

// Achieved and predicted rates under the device's roof, both axes logarithmic; a sentence where the roof is unknown.
std::string roofline(const Analysis& analysis);

// The kernels of a row on an axis of `scale_us`, in lanes where they overlap, gaps hatched. `label` is its
// accessible name.
std::string timeline(const MlpRow& row, double scale_us, std::string_view label);
double timeline_extent(const MlpRow& row);

// One bar whose parts are the row's breakdown.
std::string breakdown_bar(const Breakdown& breakdown, std::string_view label);

// "products", "passes", "whole" or "rest": the colour of a kernel of a row; and what it does, in words.
const char* role_class(const MlpRow& row, const MlpKernel& kernel);
std::string role_text(const MlpRow& row, const MlpKernel& kernel);

}  // namespace fusedmlp::report
