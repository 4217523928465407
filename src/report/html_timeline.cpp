// Timelines and bars. Horizontal positions are percentages, so that a page of any width shows text at its own size.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/format.h"
#include "report/figures.h"
#include "report/html.h"
#include "report/wording.h"

namespace fusedmlp::report {
namespace {

constexpr std::size_t kLanes = 3;
constexpr double kLaneHeight = 34;
constexpr double kLeast = 0.3;     // percent: what is shorter is drawn this wide
constexpr double kNumbered = 3.5;  // percent of the width from which a number fits
constexpr double kNamed = 13;      // and a word

double percent(double us, double scale_us) { return 100 * us / scale_us; }

// 1, 2 or 5 times a power of ten, so that the axis has at most `most` steps.
double axis_step(double extent, int most) {
  const double least = extent / most;
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) return factor * power;
  }
  return 10 * power;
}

// The first lane that is free at this kernel's start; overlaps shorter than a hair are none.
std::size_t lane_of(const MlpKernel& kernel, std::array<double, kLanes>& ends, double scale_us) {
  std::size_t lane = 0;
  while (lane + 1 < kLanes && kernel.start_us < ends[lane] - 0.002 * scale_us) ++lane;
  ends[lane] = std::max(ends[lane], kernel.start_us + kernel.us);
  return lane;
}

std::string block(const MlpRow& row, std::size_t index, std::size_t lane, double scale_us) {
  const MlpKernel& kernel = row.kernels[index];
  const double width = std::max(kLeast, percent(kernel.us, scale_us));
  std::string text;
  if (width >= kNumbered) {
    const std::string named =
        width >= kNamed ? core::format("{} {}", index + 1, role_text(row, kernel)) : core::format("{}", index + 1);
    text = core::format("<text class=\"on long\" x=\"50%\" y=\"19\">{}</text>", named);
    if (width >= 2 * kNumbered)
      text += core::format("<text class=\"on short\" x=\"50%\" y=\"19\">{}</text>", index + 1);
  }
  return core::format(
      "<svg x=\"{:.3f}%\" y=\"{:.0f}\" width=\"{:.3f}%\" height=\"28\"><rect class=\"{}\" width=\"100%\" "
      "height=\"100%\" rx=\"3\"/><rect class=\"edge\" width=\"100%\" height=\"100%\" rx=\"3\"/>{}</svg>",
      percent(kernel.start_us, scale_us), 4 + kLaneHeight * static_cast<double>(lane), width, role_class(row, kernel),
      text);
}

}  // namespace

const char* role_class(const MlpRow& row, const MlpKernel& kernel) {
  switch (kernel.role) {
    case Role::gate:
    case Role::up:
    case Role::gate_up:
    case Role::down: return "products";
    case Role::activation:
    case Role::multiply:
    case Role::bias:
    case Role::cast: return "passes";
    case Role::reduce:
    case Role::routing: return "rest";
    case Role::other: return row.kernels.size() == 1 ? "whole" : "rest";
  }
  return "rest";
}

std::string role_text(const MlpRow& row, const MlpKernel& kernel) {
  if (kernel.role == Role::gate_up) return "gate and up";
  if (kernel.role == Role::other && row.kernels.size() == 1) return "whole MLP";
  return to_string(kernel.role);
}

double timeline_extent(const MlpRow& row) {
  double extent = row.span_us_per_instance;
  for (const MlpKernel& kernel : row.kernels) extent = std::max(extent, kernel.start_us + kernel.us);
  return extent;
}

std::string timeline(const MlpRow& row, double scale_us, std::string_view label) {
  if (row.kernels.empty() || !(scale_us > 0)) return "";
  std::array<double, kLanes> ends{};
  std::string blocks, gaps;
  std::size_t lanes = 1;
  double covered = 0;
  for (std::size_t i = 0; i < row.kernels.size(); ++i) {
    const MlpKernel& kernel = row.kernels[i];
    const double gap = percent(kernel.start_us - covered, scale_us);
    if (i > 0 && gap >= kLeast) {
      gaps += core::format("<rect class=\"gap\" x=\"{0:.3f}%\" y=\"9\" width=\"{1:.3f}%\" height=\"18\"/>",
                           percent(covered, scale_us), gap);
    }
    covered = std::max(covered, kernel.start_us + kernel.us);
    const std::size_t lane = lane_of(kernel, ends, scale_us);
    lanes = std::max(lanes, lane + 1);
    blocks += block(row, i, lane, scale_us);
  }
  const double axis = 8 + kLaneHeight * static_cast<double>(lanes);
  std::string ticks = core::format("<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{0:.0f}\" y2=\"{0:.0f}\"/>", axis);
  const double step = axis_step(scale_us, 5);
  for (int i = 0; i * step <= scale_us; ++i) {
    const double at = percent(i * step, scale_us);
    const char* anchor = i == 0 ? "start" : at > 94 ? "end" : "middle";
    ticks += core::format(
        "<line class=\"axis\" x1=\"{0:.3f}%\" x2=\"{0:.3f}%\" y1=\"{1:.0f}\" y2=\"{2:.0f}\"/><text "
        "class=\"tick\" x=\"{0:.3f}%\" y=\"{3:.0f}\" text-anchor=\"{4}\">{5}</text>",
        at, axis, axis + 4, axis + 17, anchor, i == 0 ? "0" : words(time_text(i * step)));
  }
  std::string spoken;
  for (std::size_t i = 0; i < row.kernels.size(); ++i) {
    const MlpKernel& kernel = row.kernels[i];
    spoken += core::format("{}{}: {} at {}, for {}", i == 0 ? "" : "; ", i + 1, role_text(row, kernel),
                           time_text(kernel.start_us), time_text(kernel.us));
  }
  return core::format(
      "<svg class=\"timeline\" role=\"img\" height=\"{:.0f}\"><title>{}</title><desc>{}</desc>{}{}{}"
      "</svg>\n",
      axis + 22, words(label), words(spoken), gaps, blocks, ticks);
}

std::string breakdown_bar(const Breakdown& breakdown, std::string_view label) {
  const double all = sum_us(breakdown);
  if (!(all > 0)) return "";
  std::string spans, spoken;
  for (const Slice& slice : slices(breakdown)) {
    if (!(slice.us > 0)) continue;
    spans +=
        core::format("<span class=\"part-{}\" style=\"flex-grow:{:.4f}\"></span>", slice.key, 100 * slice.us / all);
    spoken += core::format("{}{} {}", spoken.empty() ? "" : ", ", slice.label, share_text(slice.us, all));
  }
  return core::format("<div class=\"bar\" role=\"img\" aria-label=\"{}: {}\">{}</div>", words(label), words(spoken),
                      spans);
}

}  // namespace fusedmlp::report
