// The roofline: rate over arithmetic intensity, both logarithmic (Williams, Waterman and Patterson, 2009).
#include <algorithm>
#include <cmath>

#include "core/format.h"
#include "report/figures.h"
#include "report/html.h"
#include "report/wording.h"

namespace fusedmlp::report {
namespace {

constexpr double kHeight = 380;
constexpr double kTop = 14, kBottom = 40;  // room for labels, in pixels
constexpr std::size_t kMostPoints = 12;    // more of them cannot be told apart

struct Point {
  std::size_t row = 0;
  double intensity = 0, rate = 0;              // as it ran
  double fused_intensity = 0, fused_rate = 0;  // as predicted; 0: not known
};

std::vector<Point> points_of(const Analysis& analysis) {
  std::vector<Point> out;
  for (std::size_t i = 0; i < analysis.mlps.size() && out.size() < kMostPoints; ++i) {
    const MlpRow& row = analysis.mlps[i];
    const auto work = flops(row), least = least_bytes(row);
    auto moved = modelled_bytes(row);
    if (!moved) moved = least;
    if (!work || !least || !(now_us(row) > 0)) continue;
    Point point{i, *work / *moved, *work / now_us(row) * 1e6, 0, 0};
    if (row.predicted_us && *row.predicted_us > 0) {
      point.fused_intensity = *work / *least;
      point.fused_rate = *work / *row.predicted_us * 1e6;
    }
    out.push_back(point);
  }
  return out;
}

// A logarithmic axis over whole decades.
struct Axis {
  double low, high;  // exponents of ten

  void include(double value) {
    low = std::min(low, std::floor(std::log10(value)));
    high = std::max(high, std::ceil(std::log10(value)));
  }
  double share(double value) const { return (std::log10(value) - low) / (high - low); }
};

// 10^e FLOP/s.
std::string decade_text(double e) {
  const char* prefix = e >= 15 ? "P" : e >= 12 ? "T" : e >= 9 ? "G" : e >= 6 ? "M" : "";
  const double unit = e >= 15 ? 15 : e >= 12 ? 12 : e >= 9 ? 9 : e >= 6 ? 6 : 0;
  return core::format("{:.0f} {}FLOP/s", std::pow(10, e - unit), prefix);
}

class Plot {
 public:
  Plot(const Analysis& analysis, std::vector<Point> points)
      : peak_(*analysis.used.peak_flops),
        bandwidth_(*analysis.used.peak_bandwidth),
        points_(std::move(points)),
        x_{std::floor(std::log10(ridge() / 30)), std::ceil(std::log10(ridge() * 4))},
        y_{std::floor(std::log10(peak_ / 300)), std::ceil(std::log10(peak_ * 1.5))} {
    for (const Point& point : points_) {
      x_.include(point.intensity);
      y_.include(point.rate);
      if (point.fused_rate > 0) {
        x_.include(point.fused_intensity);
        y_.include(point.fused_rate);
      }
    }
    x_.low = std::max(x_.low, -3.0);
  }

  std::string svg(const std::string& spoken) const {
    return core::format(
        "<svg role=\"img\" height=\"{:.0f}\" aria-labelledby=\"roof-t roof-d\"><title id=\"roof-t\">"
        "Roofline of the MLPs</title><desc id=\"roof-d\">{}</desc>{}{}{}{}</svg>\n",
        kHeight, words(spoken), grid(), roof(), labels(), marks());
  }

 private:
  double ridge() const { return peak_ / bandwidth_; }
  double x(double intensity) const { return 100 * std::clamp(x_.share(intensity), 0.0, 1.0); }
  double y(double rate) const {
    return kTop + (kHeight - kTop - kBottom) * (1 - std::clamp(y_.share(rate), -0.02, 1.0));
  }

  std::string grid() const {
    std::string out;
    for (double e = x_.low; e <= x_.high; ++e) {
      out += core::format("<line class=\"grid\" x1=\"{0:.2f}%\" x2=\"{0:.2f}%\" y1=\"{1:.0f}\" y2=\"{2:.0f}\"/>",
                          x(std::pow(10, e)), kTop, kHeight - kBottom);
    }
    for (double e = y_.low; e <= y_.high; ++e) {
      out += core::format("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0:.1f}\" y2=\"{0:.1f}\"/>",
                          y(std::pow(10, e)));
    }
    return out;
  }

  // Over the roof, so that its line does not cross them out.
  std::string labels() const {
    std::string out;
    for (double e = x_.low; e <= x_.high; ++e) {
      const char* anchor = e == x_.low ? "start" : e == x_.high ? "end" : "middle";
      out += core::format("<text class=\"tick\" x=\"{:.2f}%\" y=\"{:.0f}\" text-anchor=\"{}\">{:.7g}</text>",
                          x(std::pow(10, e)), kHeight - kBottom + 16, anchor, std::pow(10, e));
    }
    for (double e = y_.low + 1; e <= y_.high; ++e) {  // the lowest line carries the labels of the other axis
      out += core::format("<text class=\"tick\" x=\"4\" y=\"{:.1f}\">{}</text>", y(std::pow(10, e)) + 13,
                          decade_text(e));
    }
    return out + core::format(
                     "<text class=\"tick\" x=\"50%\" y=\"{:.0f}\" text-anchor=\"middle\">FLOP for each byte of "
                     "memory traffic</text>",
                     kHeight - 6);
  }

  std::string roof() const {
    // The slope starts where it leaves the floor of the plot, or at its left edge.
    const double start = std::max(std::pow(10, x_.low), std::pow(10, y_.low) / bandwidth_);
    return core::format(
        "<line class=\"roof\" x1=\"{0:.2f}%\" y1=\"{1:.1f}\" x2=\"{2:.2f}%\" y2=\"{3:.1f}\"/><line "
        "class=\"roof\" x1=\"{2:.2f}%\" y1=\"{3:.1f}\" x2=\"100%\" y2=\"{3:.1f}\"/>"
        "<text class=\"zone\" x=\"99.5%\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>"
        "<text class=\"zone\" x=\"{6:.2f}%\" y=\"{7:.1f}\" text-anchor=\"end\">{8}</text>",
        x(start), y(start * bandwidth_), x(ridge()), y(peak_), y(peak_) - 6, rate_text(peak_, "FLOP/s"),
        x(ridge() / 6), y(peak_ / 6) - 8, rate_text(bandwidth_, "B/s"));
  }

  std::string marks() const {
    std::string steps, out;
    for (const Point& point : points_) {
      const double ax = x(point.intensity), ay = y(point.rate);
      if (point.fused_rate > 0) {
        const double bx = x(point.fused_intensity), by = y(point.fused_rate);
        steps += core::format("<line class=\"step\" x1=\"{:.2f}%\" y1=\"{:.1f}\" x2=\"{:.2f}%\" y2=\"{:.1f}\"/>", ax,
                              ay, bx, by);
        out += core::format(
            "<svg x=\"{:.2f}%\" y=\"{:.1f}\" width=\"1\" height=\"1\" overflow=\"visible\"><path "
            "class=\"then\" d=\"M0-7 7 0 0 7-7 0Z\"/></svg>",
            bx, by);
      }
      out += core::format(
          "<circle class=\"now\" cx=\"{:.2f}%\" cy=\"{:.1f}\" r=\"5.5\"/><text class=\"mark\" x=\"{:.2f}%\" "
          "y=\"{:.1f}\" dx=\"{}\" text-anchor=\"{}\">{}</text>",
          ax, ay, ax, ay + 17, ax > 94 ? -8 : 8, ax > 94 ? "end" : "start", number_text(point.row));
    }
    return steps + out;
  }

  double peak_, bandwidth_;
  std::vector<Point> points_;
  Axis x_, y_;
};

std::string intensity_text(double value) { return core::format("{:.3g}", value); }

}  // namespace

std::string roofline(const Analysis& analysis) {
  if (analysis.mlps.empty()) return "";
  if (!analysis.used.peak_flops || !analysis.used.peak_bandwidth) {
    return "<p class=\"about\">The peak rates of this trace\u2019s device are not known, so there is no roof to "
           "draw. "
           "<code>--peak-flops</code> and <code>--peak-bandwidth</code>, or <code>--target</code> for a known GPU, "
           "give "
           "one.</p>\n";
  }
  const std::vector<Point> points = points_of(analysis);
  if (points.empty()) {
    return "<p class=\"about\">Widths or token counts are not in this trace; without them there is no arithmetic to "
           "place under a roof. Profile with <code>record_shapes=True</code>.</p>\n";
  }
  std::string spoken =
      core::format("The device reaches {} and reads {}.", rate_text(*analysis.used.peak_flops, "FLOP/s"),
                   rate_text(*analysis.used.peak_bandwidth, "B/s"));
  std::string rows;
  bool predicted = false;
  for (const Point& point : points) {
    const MlpRow& row = analysis.mlps[point.row];
    const bool known = point.fused_rate > 0;
    predicted = predicted || known;
    spoken += core::format(
        " {} ran at {}, {} FLOP a byte{}.", number_text(point.row), rate_text(point.rate, "FLOP/s"),
        intensity_text(point.intensity),
        known ? core::format("; fused it is predicted at {}", rate_text(point.fused_rate, "FLOP/s")) : "");
    rows += core::format(
        "<tr><th scope=\"row\">{} {}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td "
        "class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>\n",
        number_text(point.row), escape(name_text(row)), rate_text(point.rate, "FLOP/s"),
        share_text(point.rate, *analysis.used.peak_flops), intensity_text(point.intensity),
        known ? rate_text(point.fused_rate, "FLOP/s") : "-", known ? intensity_text(point.fused_intensity) : "-");
  }
  std::string out = core::format(
      "<p class=\"about\">No kernel gets above the line: {} of arithmetic ({}), {} of memory "
      "({}; dense bf16). Left of its bend memory is the limit, right of it arithmetic.</p>\n",
      rate_text(*analysis.used.peak_flops, "FLOP/s"), escape(device_text(analysis.used)),
      rate_text(*analysis.used.peak_bandwidth, "B/s"), escape(analysis.used.basis));
  out +=
      "<div class=\"card\"><ul class=\"legend\"><li><svg class=\"key\" aria-hidden=\"true\" width=\"16\" "
      "height=\"14\" "
      "style=\"display:inline-block;width:16px;vertical-align:-2px\"><circle class=\"now\" cx=\"7\" cy=\"7\" "
      "r=\"5\"/></svg> as it ran</li>";
  if (predicted) {
    out +=
        "<li><svg aria-hidden=\"true\" width=\"16\" height=\"14\" style=\"display:inline-block;width:16px;"
        "vertical-align:-2px\"><path class=\"then\" d=\"M7 0 14 7 7 14 0 7Z\"/></svg> predicted when fused</li>";
  }
  out += "</ul>\n" + Plot(analysis, points).svg(spoken);
  out +=
      "<details><summary>The same as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Roofline as a table\"><table><caption>Rates and intensities; bytes are modelled from shapes: "
      "every "
      "kernel reads its operands and writes its result once</caption><thead><tr><th scope=\"col\">MLP</th><th "
      "scope=\"col\" class=\"num\">Rate</th><th scope=\"col\" class=\"num\">Of peak</th><th scope=\"col\" "
      "class=\"num\">FLOP/byte</th><th scope=\"col\" class=\"num\">Fused rate</th><th scope=\"col\" "
      "class=\"num\">Fused "
      "FLOP/byte</th></tr></thead><tbody>\n" +
      rows + "</tbody></table></div></details></div>\n";
  return out;
}

}  // namespace fusedmlp::report
