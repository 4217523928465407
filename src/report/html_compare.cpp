// The page of a comparison: one baseline, one or more variants beside it.
#include <algorithm>

#include "core/format.h"
#include "fusedmlp/report.h"
#include "report/figures.h"
#include "report/html.h"
#include "report/wording.h"
#include "trace/kernel_name.h"

namespace fusedmlp {
namespace report {
namespace {

constexpr std::size_t kChanges = 30;

// What stands in one row of the page: the baseline's MLP and what it became in each variant.
struct Family {
  const MlpRow* base = nullptr;
  std::vector<const ComparedMlp*> variants;  // one a comparison; null: not there
};

std::vector<Family> families(const std::vector<Comparison>& comparisons) {
  std::vector<Family> out;
  for (std::size_t v = 0; v < comparisons.size(); ++v) {
    std::size_t of_base = 0;  // pairs come in the order of the baseline's rows
    for (const ComparedMlp& pair : comparisons[v].mlps) {
      Family* family = nullptr;
      if (pair.a) {
        if (v == 0) out.emplace_back(Family{&*pair.a, {}});
        family = &out[of_base++];
      } else {
        family = &out.emplace_back();
      }
      family->variants.resize(comparisons.size(), nullptr);
      family->variants[v] = &pair;
    }
  }
  return out;
}

std::string change_class(double before, double after) {
  if (!(before > 0) || !(after >= 0)) return "";
  return after < 0.98 * before ? "better" : after > 1.02 * before ? "worse" : "";
}

std::string marked(const std::string& text, double before, double after) {
  const std::string mark = change_class(before, after);
  if (mark.empty()) return words(text);
  return core::format("<span class=\"{}\">{} {}</span>", mark, words(text), mark == "better" ? "\u25BC" : "\u25B2");
}

// One figure of a family: a line of its table.
template <class Figure>
std::string figure_row(const char* name, const Family& family, Figure&& figure, std::string (*text)(double)) {
  std::string out = core::format("<tr><th scope=\"row\">{}</th>", name);
  const std::optional<double> before = family.base != nullptr ? figure(*family.base) : std::nullopt;
  out += core::format("<td class=\"num\">{}</td>", before ? words(text(*before)) : "-");
  for (const ComparedMlp* pair : family.variants) {
    const std::optional<double> after = pair != nullptr && pair->b ? figure(*pair->b) : std::nullopt;
    out += core::format("<td class=\"num\">{}</td>", !after   ? "-"
                                                     : before ? marked(text(*after), *before, *after)
                                                              : words(text(*after)));
  }
  return out + "</tr>\n";
}

std::string plain_time(double us) { return time_text(us); }

std::string family_card(const Family& family, std::size_t index, const std::vector<std::string>& names) {
  const MlpRow* any = family.base;
  double scale = any != nullptr ? timeline_extent(*any) : 0;
  std::string changes;
  for (std::size_t v = 0; v < family.variants.size(); ++v) {
    const ComparedMlp* pair = family.variants[v];
    if (pair == nullptr) continue;
    if (pair->b) {
      scale = std::max(scale, timeline_extent(*pair->b));
      if (any == nullptr) any = &*pair->b;
    }
    changes +=
        core::format("<p class=\"reason\"><strong>{}</strong>: {}</p>\n", escape(names[v + 1]), words(pair->change));
  }
  if (any == nullptr) return "";
  std::string out = core::format(
      "<article class=\"card\" aria-labelledby=\"pair-{0}\"><div class=\"head\"><h3 "
      "id=\"pair-{0}\">{1} {2}, {3}</h3></div>\n{4}<div class=\"pair\">",
      index + 1, number_text(index), escape(name_text(*any)),
      any->tokens ? plural(*any->tokens, "token") : "tokens not known", changes);
  const auto add = [&](const MlpRow* row, const std::string& name) {
    out += core::format("<b>{}</b><div>{}</div>\n", escape(name),
                        row == nullptr ? "<p class=\"about\">not in this trace</p>"
                                       : timeline(*row, scale, core::format("One run in {}", name)));
  };
  add(family.base, names[0]);
  for (std::size_t v = 0; v < family.variants.size(); ++v) {
    const ComparedMlp* pair = family.variants[v];
    add(pair != nullptr && pair->b ? &*pair->b : nullptr, names[v + 1]);
  }
  out += core::format(
      "</div>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of {0}\"><table>"
      "<caption>{0}, one run; \u25BC less than {1}, \u25B2 more</caption><thead><tr><td></td>",
      number_text(index), escape(names[0]));
  for (const std::string& name : names) out += core::format("<th scope=\"col\" class=\"num\">{}</th>", escape(name));
  out += "</tr></thead><tbody>\n";
  using Maybe = std::optional<double>;
  out += figure_row(
      "Launches", family, [](const MlpRow& r) { return Maybe(r.launches_per_instance); }, launches_text);
  out += figure_row(
      "Kernel time", family, [](const MlpRow& r) { return Maybe(r.us_per_instance); }, plain_time);
  out += figure_row(
      "Start to end", family, [](const MlpRow& r) { return Maybe(r.span_us_per_instance); }, plain_time);
  out += figure_row(
      "Idle", family, [](const MlpRow& r) { return Maybe(r.gap_us_per_instance); }, plain_time);
  out += figure_row("Memory traffic, modelled", family, modelled_bytes, bytes_text);
  return out + "</tbody></table></div></article>\n";
}

std::string count_and_time(std::int64_t count, double us) {
  return count == 0
             ? "-"
             : core::format("{} \u00D7 {}", count_text(count), words(time_text(us / static_cast<double>(count))));
}

std::string changes_table(const Comparison& comparison, const std::string& a, const std::string& b) {
  if (comparison.kernels.empty()) return "";
  std::string out = core::format(
      "<div class=\"card\"><table class=\"stack\" role=\"table\"><caption>From {} to {}: names whose count or time "
      "differs{}</caption><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" "
      "scope=\"col\">Name</th><th "
      "role=\"columnheader\" scope=\"col\" class=\"num\">{}</th><th role=\"columnheader\" scope=\"col\" "
      "class=\"num\">{}"
      "</th><th role=\"columnheader\" scope=\"col\">Change</th></tr></thead><tbody role=\"rowgroup\">\n",
      escape(a), escape(b),
      comparison.kernels.size() > kChanges
          ? core::format(" (the first {} of {})", kChanges, comparison.kernels.size())
          : "",
      escape(a), escape(b));
  for (std::size_t i = 0; i < std::min(kChanges, comparison.kernels.size()); ++i) {
    const KernelChange& change = comparison.kernels[i];
    const std::string decoded = trace::decode(change.name).words;
    const char* what = change.count_a == 0 ? "came" : change.count_b == 0 ? "went" : "";
    std::string how = what;
    if (how.empty()) how = words(core::format("{} \u2192 {}", time_text(change.us_a), time_text(change.us_b)));
    out += core::format(
        "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}{}</th><td role=\"cell\" "
        "class=\"num\" data-label=\"{}\"><span>{}</span></td><td role=\"cell\" class=\"num\" "
        "data-label=\"{}\"><span>{}</span></td><td role=\"cell\" data-label=\"Change\"><span>{}</span></td>"
        "</tr>\n",
        decoded.empty() ? "" : words(decoded) + "<br>",
        decoded.empty() ? core::format("<code>{}</code>", escape(change.name)) : raw_name(change.name), escape(a),
        count_and_time(change.count_a, change.us_a), escape(b), count_and_time(change.count_b, change.us_b), how);
  }
  return out + "</tbody></table></div>\n";
}

std::string page(const std::vector<Comparison>& comparisons) {
  const Analysis& base = comparisons.front().a;
  std::vector<std::string> names{short_name(base.path)};
  for (const Comparison& comparison : comparisons) names.push_back(short_name(comparison.b.path));
  std::string lead = "<div class=\"lead\">", changes;
  std::string subject = names[0];
  std::vector<std::string> warnings = base.warnings;
  for (std::size_t v = 0; v < comparisons.size(); ++v) {
    const Comparison& comparison = comparisons[v];
    subject += (v == 0 ? " against " : " and ") + names[v + 1];
    if (comparisons.size() > 1) {
      lead += core::format("<p><strong>{}</strong>: {}</p>\n", escape(names[v + 1]), words(headline(comparison)));
    } else {
      lead += paragraphs(summary(comparison));
    }
    changes += changes_table(comparison, names[0], names[v + 1]);
    for (const std::string& warning : comparison.b.warnings) warnings.push_back(names[v + 1] + ": " + warning);
  }
  lead += "</div>\n" + warning_list(warnings);
  std::string cards;
  const std::vector<Family> rows = families(comparisons);
  for (std::size_t i = 0; i < rows.size(); ++i) cards += family_card(rows[i], i, names);
  // The last variant is the one that a profile is made for: fused.
  return document(headline(comparisons.back()), subject, lead,
                  {{"before-after", "Before and after", "Before and after", cards},
                   {"changes", "Came and went", "What came and went", changes},
                   {"advice", "What to do", "What to do about the first", advice_list(base)},
                   {"mlps", "MLPs", "Its MLPs", mlp_table(base)},
                   {"time", "Time", "Where its time goes", breakdown_bars(base)},
                   {"roofline", "Roofline", "Its roofline", roofline(base)},
                   {"kernels", "MLP by MLP", "MLP by MLP", mlp_articles(base)},
                   {"notes", "How to read", "How to read this", reading_notes()}});
}

}  // namespace
}  // namespace report

inline namespace v0 {

std::string to_html(const Comparison& comparison) { return report::page({comparison}); }

Result<std::string> to_html(const std::vector<Comparison>& comparisons) {
  if (comparisons.empty()) {
    return Status(StatusCode::invalid_argument, "comparisons", "is empty, accepted: one or more");
  }
  for (const Comparison& comparison : comparisons) {
    if (comparison.a.mlps.size() != comparisons.front().a.mlps.size()) {
      return Status(StatusCode::invalid_argument, "comparisons", "must have the same trace as their a");
    }
  }
  return report::page(comparisons);
}

}  // namespace v0
}  // namespace fusedmlp
