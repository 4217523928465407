// An analysis as a person or a program reads it: text for a terminal, JSON, and one HTML page.
//
// Names in a trace may be hostile: text holds no control characters, HTML is escaped, JSON is valid UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fusedmlp/analysis.h"
#include "fusedmlp/status.h"

namespace fusedmlp {
inline namespace v0 {

struct TextOptions {
  int width = 80;      // columns of the terminal; below 64 counts as 64
  bool color = false;  // ANSI escapes
};

std::string to_text(const Analysis& analysis, const TextOptions& options = {});
std::string to_text(const Comparison& comparison, const TextOptions& options = {});

// Schemas "fusedmlp-analysis-1" and "fusedmlp-comparison-1": one object, indented, without a newline at its end.
std::string to_json(const Analysis& analysis);
std::string to_json(const Comparison& comparison);

// Reads what to_json(Analysis) wrote. Status invalid_argument on "json" for anything else.
Result<Analysis> read_analysis(std::string_view json);

// One self-contained page: no network, no script.
std::string to_html(const Analysis& analysis);
std::string to_html(const Comparison& comparison);
// Several variants beside one baseline, the comparisons' common `a`. Status on "comparisons" when it is empty.
Result<std::string> to_html(const std::vector<Comparison>& comparisons);

}  // namespace v0
}  // namespace fusedmlp
