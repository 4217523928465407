#include "core/format.h"
#include "fusedmlp/plan.h"
#include "report/html.h"
#include "report/wording.h"

namespace fusedmlp::report {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : clean(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string words(std::string_view text) {
  constexpr std::string_view kSpace = "\u00A0";  // a number and its unit stay on one line
  std::string out;
  const std::string from = escape(text);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const bool after_digit = i > 0 && from[i - 1] >= '0' && from[i - 1] <= '9';
    const std::string_view unit = from[i] == ' ' && after_digit ? unit_at(std::string_view(from).substr(i + 1)) : "";
    if (unit.empty()) {
      out += from[i];
      continue;
    }
    out += kSpace;
    out += unit == "us" ? "\u00B5s" : unit;
    i += unit.size();
  }
  return out;
}

std::string short_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  for (const std::string_view ending : {".gz", ".json", ".trace", ".pt"}) {
    if (name.size() > ending.size() && name.ends_with(ending)) name.remove_suffix(ending.size());
  }
  return clean(name.empty() ? path : name);
}

std::string document(std::string_view headline, std::string_view subject, std::string_view lead,
                     const std::vector<Section>& sections) {
  std::string out = core::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"generator\" content=\"fusedmlp {}\">\n<title>{} - fusedmlp</title>\n<style>{}</style>\n</head>\n",
      version(), escape(subject), style_sheet());
  out += "<body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>\n";
  // Shared by every timeline: gaps are hatched.
  out +=
      "<svg aria-hidden=\"true\" style=\"position:absolute;width:0;height:0\"><defs><pattern id=\"hatch\" "
      "patternUnits=\"userSpaceOnUse\" width=\"6\" height=\"6\" patternTransform=\"rotate(45)\"><path "
      "d=\"M0 0V6\" style=\"stroke:var(--launch);stroke-width:3;stroke-opacity:.45\"/></pattern></defs></svg>\n";
  out += core::format(
      "<header><div class=\"wrap\"><p class=\"brand\">fusedmlp</p>\n<h1>{}</h1>\n"
      "<p class=\"subject\">{}</p>\n{}</div></header>\n",
      words(headline), escape(subject), lead);
  out += "<nav aria-label=\"Sections\"><ul>";
  for (const Section& section : sections) {
    if (!section.body.empty()) out += core::format("<li><a href=\"#{}\">{}</a></li>", section.id, section.link);
  }
  out += "</ul></nav>\n<main id=\"main\" class=\"wrap\" tabindex=\"-1\">\n";
  for (const Section& section : sections) {
    if (section.body.empty()) continue;
    out += core::format(
        "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n{2}</section>\n",
        section.id, section.title, section.body);
  }
  out += core::format(
      "</main>\n<footer><div class=\"wrap\">Made by fusedmlp {}. This page is one file: nothing is "
      "loaded from anywhere.</div></footer>\n</body>\n</html>\n",
      version());
  return out;
}

std::string verdict_badge(const MlpRow& row) {
  switch (call_of(row)) {
    case Call::fuse: return "<span class=\"badge fuse\">\u2713 Fuse</span>";
    case Call::fused_already: return "<span class=\"badge fuse\">\u2713 Fused already</span>";
    case Call::leave: return "<span class=\"badge leave\">\u2013 Leave as it is</span>";
    case Call::uncompared: return "<span class=\"badge unknown\">? Cannot be told</span>";
    case Call::unknown: break;
  }
  return "<span class=\"badge unknown\">? Not predicted</span>";
}

std::string tile(std::string_view label, std::string_view value, std::string_view note) {
  return core::format(
      "<div class=\"tile\"><dt>{}</dt><dd><div class=\"value\">{}</div><div class=\"note\">{}</div></dd>"
      "</div>\n",
      words(label), words(value), words(note));
}

std::string raw_name(std::string_view name) {
  constexpr std::size_t kShort = 80;
  const std::string code = core::format("<code>{}</code>", escape(name));
  if (name.size() <= kShort) return code;
  return core::format("<details><summary>Name in the trace</summary>{}</details>", code);
}

std::string paragraphs(const std::vector<std::string>& sentences) {
  std::string out;
  for (const std::string& sentence : sentences) out += core::format("<p>{}</p>\n", words(sentence));
  return out;
}

std::string warning_list(const std::vector<std::string>& warnings) {
  if (warnings.empty()) return "";
  std::string out = "<div class=\"warn\" role=\"note\"><strong>Warnings about the trace</strong><ul>";
  for (const std::string& warning : warnings) out += core::format("<li>{}</li>", escape(warning));
  return out + "</ul></div>\n";
}

}  // namespace fusedmlp::report
