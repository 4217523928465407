// The page of one analysis.
#include <algorithm>

#include "core/format.h"
#include "fusedmlp/report.h"
#include "report/figures.h"
#include "report/html.h"
#include "report/wording.h"

namespace fusedmlp {
namespace report {
namespace {

constexpr std::size_t kTotals = 20;
constexpr std::size_t kTicks = 300;  // instances drawn on the line of the trace

std::string tokens_text(const MlpRow& row) { return row.tokens ? count_text(*row.tokens) : "?"; }

std::string bias_text(const MlpRow& row) { return !row.bias ? "?" : *row.bias ? "yes" : "no"; }

std::string regime_text(const MlpRow& row) {
  if (!row.regime) return "not known";
  switch (*row.regime) {
    case Regime::overhead: return "launches";
    case Regime::memory: return "memory";
    case Regime::compute: return "arithmetic";
  }
  return "not known";
}

std::string cell(std::string_view label, std::string_view value, bool number = true) {
  return core::format("<td role=\"cell\"{} data-label=\"{}\"><span>{}</span></td>", number ? " class=\"num\"" : "",
                      label, value);
}

// The name of a row, leading to its article where it has one.
std::string link(const MlpRow& row, std::size_t index) {
  const std::string name = core::format("{} {}", number_text(index), escape(name_text(row)));
  return index < kArticles ? core::format("<a href=\"#mlp-{}\">{}</a>", index + 1, name) : name;
}

std::string table_row(const Analysis& analysis, std::size_t index) {
  const MlpRow& row = analysis.mlps[index];
  const auto saving = saving_us(analysis, row);
  std::string saved = "-";
  if (saving && *saving > 0) saved = time_text(*saving);
  return core::format("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}</th>", link(row, index)) +
         cell("Tokens", tokens_text(row)) + cell("Times", count_text(row.instances)) +
         cell("Launches", launches_text(row.launches_per_instance)) +
         cell("Time", words(time_text(row.us_per_instance))) +
         cell("Idle", words(time_text(row.gap_us_per_instance))) + cell("Bound by", regime_text(row), false) +
         cell("Fused", words(time_text(row.predicted_us))) + cell("Saves in all", words(saved)) +
         cell("Verdict", verdict_badge(row), false) + "</tr>\n";
}

std::string fact(std::string_view name, std::string_view value) {
  return core::format("<div><dt>{}</dt><dd>{}</dd></div>", name, words(value));
}

std::string facts(const MlpRow& row) {
  std::string out = "<dl class=\"facts\">";
  out += fact("Tokens", tokens_text(row)) + fact("Type", row.dtype.value_or("?")) + fact("Bias", bias_text(row));
  if (row.experts) {
    out += fact("Experts", core::format("{}{}", *row.experts,
                                        row.top_k ? core::format(", {} a token", *row.top_k) : std::string()));
  }
  out += fact("Ran", plural(row.instances, "time")) +
         fact("Launches each", launches_text(row.launches_per_instance)) +
         fact("Kernel time each", time_text(row.us_per_instance)) +
         fact("Start to end", time_text(row.span_us_per_instance)) + fact("Bound by", regime_text(row)) +
         fact("Physical limit", time_text(row.limit_us)) + fact("Fused", time_text(row.predicted_us));
  if (!row.prediction_basis.empty()) out += fact("Prediction is", row.prediction_basis);
  if (const auto bytes = modelled_bytes(row)) out += fact("Memory traffic", bytes_text(*bytes));
  out += fact("Confidence", core::format("{:.0f} %", 100 * row.confidence));
  return out + "</dl>\n";
}

std::string extent_text(const std::optional<std::int64_t> (&extent)[3]) {
  if (!extent[0] || !extent[1] || !extent[2]) return "-";
  return core::format("{}\u00D7{}\u00D7{}", *extent[0], *extent[1], *extent[2]);
}

std::string kernel_row(const MlpRow& row, std::size_t index) {
  const MlpKernel& kernel = row.kernels[index];
  const std::string what = kernel.decoded.empty() ? "<em>Name not known</em>" : words(kernel.decoded);
  return core::format(
             "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\"><span class=\"chip {}\" aria-hidden=\"true\">"
             "</span>{} {}</th><td role=\"cell\">{}<br>{}</td>",
             role_class(row, kernel), index + 1, role_text(row, kernel), what, raw_name(kernel.name)) +
         cell("Start", words(time_text(kernel.start_us))) + cell("Time", words(time_text(kernel.us))) +
         cell("Idle before", words(time_text(kernel.gap_us))) +
         cell("Occupancy", kernel.occupancy ? core::format("{:.0f} %", 100 * *kernel.occupancy) : "-") +
         cell("Grid", extent_text(kernel.grid)) + cell("Block", extent_text(kernel.block)) + "</tr>\n";
}

std::string kernel_table(const MlpRow& row, std::size_t index) {
  if (row.kernels.empty()) return "";
  std::string out = core::format(
      "<details{}><summary>Its {} in order, with decoded names</summary><table class=\"stack\" "
      "role=\"table\"><caption>"
      "Kernels of {}, averaged over {}</caption><thead role=\"rowgroup\"><tr role=\"row\">",
      index == 0 ? " open" : "", plural(static_cast<std::int64_t>(row.kernels.size()), "kernel"), number_text(index),
      plural(row.instances, "run"));
  for (const char* name : {"Role", "What it is"}) {
    out += core::format("<th role=\"columnheader\" scope=\"col\">{}</th>", name);
  }
  for (const char* name : {"Start", "Time", "Idle before", "Occupancy", "Grid", "Block"}) {
    out += core::format("<th role=\"columnheader\" scope=\"col\" class=\"num\">{}</th>", name);
  }
  out += "</tr></thead><tbody role=\"rowgroup\">\n";
  for (std::size_t i = 0; i < row.kernels.size(); ++i) out += kernel_row(row, i);
  return out + "</tbody></table></details>\n";
}

// Where on the trace's time its runs start.
std::string occurrences(const Analysis& analysis, const MlpRow& row) {
  if (row.starts_us.size() < 2 || !(analysis.gpu_span_us > 0)) return "";
  std::string marks;
  const std::size_t step = (row.starts_us.size() + kTicks - 1) / kTicks;
  for (std::size_t i = 0; i < row.starts_us.size(); i += step) {
    const double at = 100 * row.starts_us[i] / analysis.gpu_span_us;
    if (at < 0 || at > 100) continue;
    const double width = std::max(0.25, 100 * row.span_us_per_instance / analysis.gpu_span_us);
    marks +=
        core::format("<rect class=\"products\" x=\"{:.3f}%\" y=\"2\" width=\"{:.3f}%\" height=\"12\"/>", at, width);
  }
  return core::format(
      "<h4>When in the trace</h4><svg role=\"img\" height=\"34\"><title>{} over {}</title><line "
      "class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"17\" y2=\"17\"/>{}<text class=\"tick\" x=\"0\" y=\"31\">0"
      "</text><text class=\"tick\" x=\"100%\" y=\"31\" text-anchor=\"end\">{}</text></svg>\n",
      plural(static_cast<std::int64_t>(row.starts_us.size()), "run"), words(time_text(analysis.gpu_span_us)), marks,
      words(time_text(analysis.gpu_span_us)));
}

std::string article(const Analysis& analysis, std::size_t index) {
  const MlpRow& row = analysis.mlps[index];
  std::string out = core::format(
      "<article class=\"card\" id=\"mlp-{0}\" aria-labelledby=\"mlp-{0}-title\"><div "
      "class=\"head\"><h3 id=\"mlp-{0}-title\">{1} {2}</h3>{3}</div>\n<p class=\"reason\">{4}"
      "</p>\n",
      index + 1, number_text(index), escape(name_text(row)), verdict_badge(row), words(sentence(row.reason)));
  out += facts(row);
  const std::string picture =
      timeline(row, timeline_extent(row), core::format("Timeline of one run of {}", number_text(index)));
  if (!picture.empty()) out += "<h4>One run, on average</h4>\n" + picture;
  return out + occurrences(analysis, row) + kernel_table(row, index) + "</article>\n";
}

// The whole trace as one bar: MLPs, everything else, nothing.
std::string trace_bar(const Analysis& analysis) {
  if (!(analysis.gpu_span_us > 0)) return "";
  const double mlp = std::min(analysis.mlp_us, analysis.gpu_busy_us);
  const double rest = analysis.gpu_busy_us - mlp, idle = std::max(0.0, analysis.gpu_span_us - analysis.gpu_busy_us);
  const double all = analysis.gpu_span_us;
  const std::string parts = core::format("MLPs {}, everything else {}, idle {}", share_text(mlp, all),
                                         share_text(rest, all), share_text(idle, all));
  return core::format(
      "<div class=\"row\"><div class=\"name\">The whole trace</div><div class=\"bar\" role=\"img\" "
      "aria-label=\"{}\"><span class=\"part-mlp\" style=\"flex-grow:{:.4f}\"></span><span "
      "class=\"part-other\" style=\"flex-grow:{:.4f}\"></span><span class=\"part-idle\" "
      "style=\"flex-grow:{:.4f}\"></span></div><div class=\"total\">{}</div><div class=\"parts\">{}</div>"
      "</div>\n",
      parts, 100 * mlp / all, 100 * rest / all, 100 * idle / all, words(time_text(all)), parts);
}

std::string bar_row(const MlpRow& row, std::size_t index) {
  const double all = sum_us(row.breakdown);
  if (!(all > 0)) return "";
  std::string parts;
  for (const Slice& slice : slices(row.breakdown)) {
    if (slice.us > 0)
      parts += core::format("{}{} {}", parts.empty() ? "" : ", ", slice.label, share_text(slice.us, all));
  }
  const std::string name = core::format("{} {}", number_text(index), name_text(row));
  return core::format(
      "<div class=\"row\"><div class=\"name\">{}</div>{}<div class=\"total\">{}</div><div class=\"parts\">"
      "{}</div></div>\n",
      escape(name), breakdown_bar(row.breakdown, name), words(time_text(all)), words(parts));
}

std::string tiles(const Analysis& analysis) {
  std::string out = "<dl class=\"tiles\">";
  const bool gpu = on_gpu(analysis);
  out += tile("Fusing would save",
              analysis.predicted_saving_us > 0 ? time_text(analysis.predicted_saving_us)
              : told(analysis)                 ? "nothing"
                                               : "not known",
              analysis.used.target ? "on " + analysis.used.name
              : analysis.predicted_saving_us > 0 && analysis.gpu_span_us > 0
                  ? share_text(analysis.predicted_saving_us, analysis.gpu_span_us) + " of the traced span"
                  : "by the predictions made");
  out +=
      tile("MLPs take", time_text(analysis.mlp_us),
           analysis.gpu_busy_us > 0 ? share_text(analysis.mlp_us, analysis.gpu_busy_us) + " of the busy time" : "");
  out += tile(gpu ? "GPU busy" : "Operations take", time_text(analysis.gpu_busy_us),
              analysis.gpu_span_us > 0
                  ? share_text(analysis.gpu_busy_us, analysis.gpu_span_us) + " of " + time_text(analysis.gpu_span_us)
                  : "");
  if (gpu) {
    out += tile("Kernels", count_text(analysis.kernels),
                analysis.steps ? "over " + plural(*analysis.steps, "step") : std::string("in the trace"));
  }
  return out + "</dl>\n";
}

}  // namespace

std::string advice_list(const Analysis& analysis) {
  std::string out;
  for (const Advice& item : advice(analysis)) {
    std::string title = escape(item.title);
    if (!item.rows.empty()) {
      title = verdict_badge(analysis.mlps[item.rows[0]]);
      for (const std::size_t row : item.rows) {
        title += core::format("{}{}", row == item.rows[0] ? " " : "<br>", link(analysis.mlps[row], row));
      }
    }
    out += core::format("<li><strong>{}</strong><p>{}</p></li>\n", title, words(item.text));
  }
  return out.empty() ? "" : "<div class=\"card\"><ul class=\"advice\">" + out + "</ul></div>\n";
}

std::string mlp_table(const Analysis& analysis) {
  if (analysis.mlps.empty()) return "";
  std::string out =
      "<p class=\"about\">Equal MLPs over layers and steps share a row. Time, idle and fused are those of one "
      "run.</p>\n"
      "<div class=\"card\"><table class=\"stack\" role=\"table\"><caption>MLPs of the trace, most time "
      "first</caption>"
      "<thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">MLP</th>";
  for (const char* name : {"Tokens", "Times", "Launches", "Time", "Idle"}) {
    out += core::format("<th role=\"columnheader\" scope=\"col\" class=\"num\">{}</th>", name);
  }
  out +=
      "<th role=\"columnheader\" scope=\"col\">Bound by</th><th role=\"columnheader\" scope=\"col\" "
      "class=\"num\">Fused"
      "</th><th role=\"columnheader\" scope=\"col\" class=\"num\">Saves in all</th><th role=\"columnheader\" "
      "scope=\"col\">Verdict</th></tr></thead><tbody role=\"rowgroup\">\n";
  for (std::size_t i = 0; i < analysis.mlps.size(); ++i) out += table_row(analysis, i);
  return out + "</tbody></table></div>\n";
}

std::string breakdown_bars(const Analysis& analysis) {
  std::string rows = trace_bar(analysis);
  for (std::size_t i = 0; i < std::min(kArticles, analysis.mlps.size()); ++i) rows += bar_row(analysis.mlps[i], i);
  if (rows.empty()) return "";
  std::string legend = "<ul class=\"legend\" aria-label=\"Colours of the bars\">";
  legend += "<li><span class=\"chip part-mlp\" aria-hidden=\"true\"></span>MLPs, of the whole trace</li>";
  for (const Slice& slice : slices({})) {
    legend +=
        core::format("<li><span class=\"chip part-{}\" aria-hidden=\"true\"></span>{}</li>", slice.key, slice.label);
  }
  return "<p class=\"about\">One run of each MLP from its first kernel to its last. Hatched: no kernel "
         "runs.</p>\n<div "
         "class=\"card\">" +
         legend + "</ul>\n<div class=\"bars\">\n" + rows + "</div></div>\n";
}

std::string mlp_articles(const Analysis& analysis) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kArticles, analysis.mlps.size()); ++i) out += article(analysis, i);
  if (analysis.mlps.size() > kArticles) {
    out += core::format("<p>The other {} rows are in the JSON.</p>\n", analysis.mlps.size() - kArticles);
  }
  return out;
}

std::string totals_table(const Analysis& analysis) {
  if (analysis.totals.empty()) return "";
  double all = 0;
  for (const NameTotal& total : analysis.totals) all += total.us;
  std::string out = core::format(
      "<div class=\"card\"><table class=\"stack\" role=\"table\"><caption>{} by name, most time "
      "first{}</caption><thead "
      "role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">What</th><th role=\"columnheader\" "
      "scope=\"col\" class=\"num\">Times</th><th role=\"columnheader\" scope=\"col\" class=\"num\">Time in "
      "all</th><th "
      "role=\"columnheader\" scope=\"col\" class=\"num\">Share</th></tr></thead><tbody role=\"rowgroup\">\n",
      on_gpu(analysis) ? "Kernels and copies" : "Operations",
      analysis.totals.size() > kTotals ? core::format(" (the first {} of {})", kTotals, analysis.totals.size()) : "");
  for (std::size_t i = 0; i < std::min(kTotals, analysis.totals.size()); ++i) {
    const NameTotal& total = analysis.totals[i];
    const std::string what = total.decoded.empty() ? "" : words(total.decoded) + "<br>";
    out += core::format(
               "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}{}</th>", what,
               total.decoded.empty() ? core::format("<code>{}</code>", escape(total.name)) : raw_name(total.name)) +
           cell("Times", count_text(total.count)) + cell("Time in all", words(time_text(total.us))) +
           cell("Share", share_text(total.us, all)) + "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string reading_notes() {
  return R"html(<div class="card"><dl class="terms">
<div><dt>Time and idle</dt><dd>Time is the sum of an MLP's kernels, idle what of its span no kernel covers. Both are means over its runs. Where a trace has no GPU, operations on the CPU stand in for kernels.</dd></div>
<div><dt>Bound by</dt><dd>Launches: the GPU waits for the host. Memory or arithmetic: which of the two the device would be short of first, by its peak rates.</dd></div>
<div><dt>Fused</dt><dd>Predicted time of one kernel that does the whole MLP. Measured: from this library's own timings. Modelled: from the device's peak rates and a stated efficiency. Unsupported: no kernel for the device exists.</dd></div>
<div><dt>Physical limit</dt><dd>The larger of the arithmetic at peak rate and of reading weights and input and writing output once.</dd></div>
<div><dt>Memory traffic</dt><dd>Modelled from shapes: every kernel reads its operands and writes its result once. Caches make it less.</dd></div>
<div><dt>Confidence</dt><dd>How sure it is that these kernels are one MLP: shapes and operations say it best, kernel names alone say it least.</dd></div>
</dl></div>
)html";
}

}  // namespace report

inline namespace v0 {

std::string to_html(const Analysis& analysis) {
  using namespace report;
  const std::string lead = "<div class=\"lead\">" + paragraphs(summary(analysis)) + "</div>\n" + tiles(analysis) +
                           warning_list(analysis.warnings);
  return document(headline(analysis), clean(analysis.path), lead,
                  {{"advice", "What to do", "What to do", advice_list(analysis)},
                   {"mlps", "MLPs", "The MLPs", mlp_table(analysis)},
                   {"time", "Time", "Where the time goes", breakdown_bars(analysis)},
                   {"roofline", "Roofline", "Roofline", roofline(analysis)},
                   {"kernels", "MLP by MLP", "MLP by MLP", mlp_articles(analysis)},
                   {"totals", "Whole trace", "The whole trace", totals_table(analysis)},
                   {"notes", "How to read", "How to read this", reading_notes()}});
}

}  // namespace v0
}  // namespace fusedmlp
