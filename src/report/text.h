// Laying out text for a terminal of a given width.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fusedmlp/report.h"

namespace fusedmlp::report {

enum class Style { plain, bold, dim, good, bad };
enum class Align { left, right };

struct Cell {
  std::string text;
  Style style = Style::plain;
};

class Page {
 public:
  explicit Page(const TextOptions& options);

  int width() const { return width_; }
  void title(std::string_view text);    // dim, cut from the left to one line
  void heading(std::string_view text);  // bold
  void paragraph(std::string_view text);
  void note(std::string_view text);  // dim
  void item(std::string_view title, std::string_view text);
  void warning(std::string_view text);
  void blank();
  // First row: column names. When it does not fit, column `flexible` is cut to what is left.
  void table(const std::vector<std::vector<Cell>>& rows, const std::vector<Align>& aligns, std::size_t flexible);
  std::string take() { return std::move(out_); }

 private:
  void styled(std::string_view text, Style style);
  void wrapped(std::string_view text, Style style, std::size_t used, std::size_t indent);

  int width_;
  bool color_;
  std::string out_;
};

// Columns that UTF-8 text takes, counting a code point as one.
std::size_t columns(std::string_view text);

}  // namespace fusedmlp::report
