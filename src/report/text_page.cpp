#include <algorithm>

#include "report/text.h"
#include "report/wording.h"

namespace fusedmlp::report {
namespace {

constexpr int kLeastWidth = 64;
constexpr int kMostWidth = 160;  // longer lines are hard to read

bool starts_code_point(char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; }

// At most `limit` columns; what is cut ends (or, from the left, starts) with "..".
std::string cut(std::string_view text, std::size_t limit, bool from_left = false) {
  if (columns(text) <= limit) return std::string(text);
  if (limit <= 2) return std::string(limit, '.');
  const std::size_t keep = limit - 2;
  const std::size_t skip = columns(text) - keep;
  std::size_t seen = 0;
  std::string out;
  for (const char c : text) {
    if (starts_code_point(c)) ++seen;
    if (from_left ? seen > skip : seen <= keep) out += c;
  }
  return from_left ? ".." + out : out + "..";
}

std::string_view escape(Style style) {
  switch (style) {
    case Style::plain: return "";
    case Style::bold: return "\033[1m";
    case Style::dim: return "\033[2m";
    case Style::good: return "\033[32m";
    case Style::bad: return "\033[33m";
  }
  return "";
}

// Takes the first word off `text`; a number and its unit are one.
std::string_view next_word(std::string_view& text) {
  std::size_t end = std::min(text.find(' '), text.size());
  if (end > 0 && end < text.size() && text[end - 1] >= '0' && text[end - 1] <= '9' &&
      !unit_at(text.substr(end + 1)).empty()) {
    end = std::min(text.find(' ', end + 1), text.size());
  }
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

}  // namespace

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_code_point));
}

Page::Page(const TextOptions& options)
    : width_(std::clamp(options.width, kLeastWidth, kMostWidth)), color_(options.color) {}

void Page::styled(std::string_view text, Style style) {
  const std::string_view on = color_ ? escape(style) : "";
  out_ += on;
  out_ += text;
  if (!on.empty()) out_ += "\033[0m";
}

// The line holds `used` columns already; further lines start with `indent` spaces. Words longer than a line are
// broken.
void Page::wrapped(std::string_view text, Style style, std::size_t used, std::size_t indent) {
  const auto limit = static_cast<std::size_t>(width_);
  std::string line;
  const auto end_line = [&] {
    styled(line, style);
    out_ += '\n';
    line.clear();
    used = 0;
  };
  const auto start_line = [&] {
    end_line();
    out_.append(indent, ' ');
    used = indent;
  };
  while (!text.empty()) {
    std::string_view word = next_word(text);
    if (word.empty()) continue;
    if (!line.empty() && used + 1 + columns(word) > limit) start_line();
    if (!line.empty()) {
      line += ' ';
      ++used;
    }
    while (used + columns(word) > limit) {  // a name longer than a line
      std::size_t bytes = 0;
      for (std::size_t room = limit - used; bytes < word.size(); ++bytes) {
        if (starts_code_point(word[bytes]) && room-- == 0) break;
      }
      line += word.substr(0, bytes);
      word.remove_prefix(bytes);
      start_line();
    }
    line += word;
    used += columns(word);
  }
  end_line();
}

void Page::title(std::string_view text) {
  styled(cut(text, static_cast<std::size_t>(width_), true), Style::dim);
  out_ += '\n';
}

void Page::heading(std::string_view text) { wrapped(text, Style::bold, 0, 0); }
void Page::paragraph(std::string_view text) { wrapped(text, Style::plain, 0, 0); }
void Page::note(std::string_view text) { wrapped(text, Style::dim, 0, 0); }
void Page::blank() { out_ += '\n'; }

void Page::item(std::string_view title, std::string_view text) {
  styled(title, Style::bold);
  out_ += ": ";
  wrapped(text, Style::plain, columns(title) + 2, 2);
}

void Page::warning(std::string_view text) {
  styled("warning", Style::bad);
  out_ += ": ";
  wrapped(text, Style::plain, columns("warning: "), 2);
}

void Page::table(const std::vector<std::vector<Cell>>& rows, const std::vector<Align>& aligns, std::size_t flexible) {
  std::vector<std::size_t> widths(aligns.size(), 0);
  for (const std::vector<Cell>& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i].text));
  }
  std::size_t total = 0;
  for (const std::size_t w : widths) total += w;
  const auto limit = static_cast<std::size_t>(width_);
  const std::size_t between = total + 2 * (widths.size() - 1) <= limit ? 2 : 1;
  total += between * (widths.size() - 1);
  if (total > limit)
    widths[flexible] -= std::min(total - limit, widths[flexible] - std::min<std::size_t>(8, widths[flexible]));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::string blanks;  // written only before something: no line ends in spaces
    for (std::size_t i = 0; i < rows[r].size(); ++i) {
      const std::string text = cut(rows[r][i].text, widths[i]);
      const std::size_t pad = widths[i] - columns(text);
      if (i > 0) blanks.append(between, ' ');
      if (aligns[i] == Align::right) blanks.append(pad, ' ');
      if (!text.empty()) {
        out_ += blanks;
        blanks.clear();
        styled(text, r == 0 ? Style::dim : rows[r][i].style);
      }
      if (aligns[i] == Align::left) blanks.append(pad, ' ');
    }
    out_ += '\n';
  }
}

}  // namespace fusedmlp::report
