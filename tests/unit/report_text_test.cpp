#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "fusedmlp/report.h"
#include "report/text.h"
#include "report/wording.h"
#include "unit/report_fixtures.h"

namespace fusedmlp {
namespace {

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) out.push_back(line);
  return out;
}

TEST(ReportText, GoldenAnalysis) {
  EXPECT_EQ(to_text(test::geglu_analysis()), R"(runs/geglu.json.gz
Fusing the MLP would save about 240 us of 3.00 ms.
NVIDIA H200: 60 kernels, 1 copy, 2 memsets, over 3 profiler steps.
The GPU was busy for 2.40 ms of 3.00 ms (80 %).
1 kind of MLP ran 12 times and took 1.20 ms, 50 % of the busy time.
Where their time goes: matrix products 64 %, intermediates 27 %, waiting for
launches 9 %.

# MLP                 tokens  n k   time     gap bound by   fused verdict
1 geglu 768x3072 bf16   4096 12 3 100 us 10.0 us compute  80.0 us fuse
n: times it ran; k: launches; time, gap, fused: of one instance (kernels, idle
time between them, predicted when fused)

Fuse #1: Saves about 20.0 us of 100 us each time, 240 us over 12 times
  (modelled). The hidden stays on the chip.
Intermediates: Kernels that only read and write the hidden activations take
  360 us, 27 % of the MLPs' time. A fused kernel keeps the hidden on the chip.
Device: NVIDIA H200: 989 TFLOP/s, 4.80 TB/s (table)
)");
}

TEST(ReportText, GoldenUnknowns) {
  EXPECT_EQ(to_text(test::bare_analysis()), R"(bare.json
What fusing would save cannot be told from this trace.
No GPU kernel is in this trace: the times of operations on the CPU stand in for
them.
1 kind of MLP ran once and took 4.00 us, 50 % of the busy time.

#  MLP                  tokens  n    k     time   gap  bound by  fused  verdict
1  relu unknown widths       ?  1  2.5  4.00 us  0 us  ?             -  ?
n: times it ran; k: launches; time, gap, fused: of one instance (kernels, idle
time between them, predicted when fused)

Not predicted, #1: No kernel for this device. That these kernels are one MLP is
  not certain (confidence 0.2).
Shapes: Some widths or token counts are not in this trace. Profile with
  record_shapes=True to have them.
)");
}

TEST(ReportText, GoldenComparison) {
  EXPECT_EQ(to_text(compare(test::geglu_analysis(), test::fused_analysis())),
            R"(The MLPs took 1.32 ms and now take 660 us: 2.00x faster.
A: runs/geglu.json.gz (NVIDIA H200, 3 profiler steps, 60 kernels, GPU busy
2.40 ms of 3.00 ms).
B: runs/fused.json.gz (NVIDIA H200, 3 profiler steps, 60 kernels, GPU busy
2.40 ms of 3.00 ms).
1 kind of MLP matched; for the runs in A, 36 launches became 12.

#1 geglu 768x3072 bf16: 3 launches became 1, 110 us became 55.0 us (2.00x
  faster), 178 MB moved became 26.7 MB.

kernel                                                A             B
fusedmlp: the whole MLP, or a phase of it             -  12 x 55.0 us  came
nvjet_gate_up                              12 x 45.0 us             -  went
act_and_mul<silu, bf16>                    12 x 30.0 us             -  went
)");
}

TEST(ReportText, NoLineIsWiderThanTheTerminal) {
  Analysis analysis = test::geglu_analysis();
  analysis.path = std::string(300, 'p') + "\u20AC/trace.json";
  analysis.mlps[0].kind = std::string(90, 'k');
  analysis.mlps[0].reason = std::string(200, '\xc3') + " " + std::string(500, 'r');
  for (const int width : {1, 60, 79, 80, 103, 104, 160, 100000}) {
    for (const std::string& line : lines(to_text(analysis, {width, false}))) {
      EXPECT_LE(report::columns(line), static_cast<std::size_t>(std::clamp(width, 64, 160))) << line;
    }
  }
}

TEST(ReportText, ARowIsOneLine) {
  for (const int width : {80, 120}) {
    const auto all = lines(to_text(test::geglu_analysis(), {width, false}));
    EXPECT_EQ(
        std::count_if(all.begin(), all.end(),
                      [](const auto& line) { return line.starts_with("1 ") && line.find("geglu") != line.npos; }),
        1);
  }
}

TEST(ReportText, ColourOnlyWhereAsked) {
  EXPECT_EQ(to_text(test::geglu_analysis()).find('\033'), std::string::npos);
  EXPECT_NE(to_text(test::geglu_analysis(), {80, true}).find("\033[32mfuse\033[0m"), std::string::npos);
}

TEST(ReportText, HostileNamesReachNoTerminal) {
  const std::string text = to_text(test::hostile_analysis());
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_EQ(text.find('\xff'), std::string::npos);
  EXPECT_NE(text.find("\uFFFD[31m"), std::string::npos);
}

TEST(ReportText, RowsWithOneReasonShareASentence) {
  Analysis analysis = test::bare_analysis();
  analysis.mlps.resize(3, analysis.mlps[0]);
  analysis.mlps[1].reason = "something else";
  const std::string text = to_text(analysis);
  EXPECT_NE(text.find("Not predicted, #1, #3: No kernel"), std::string::npos) << text;
  EXPECT_NE(text.find("Not predicted, #2: Something else."), std::string::npos) << text;
}

std::string second_line(const Analysis& analysis) { return lines(to_text(analysis))[1]; }

TEST(ReportText, TheHeadlineIsHonest) {
  Analysis analysis = test::geglu_analysis();
  analysis.used.target = true;
  EXPECT_EQ(second_line(analysis), "On NVIDIA H200, fusing the MLP would save about 240 us.");
  EXPECT_EQ(to_text(analysis).find("Saves about"), std::string::npos) << "two devices' times have no difference";
  analysis = test::geglu_analysis();
  analysis.predicted_saving_us = 0;
  analysis.mlps[0].verdict = Verdict::do_not_fuse;
  analysis.mlps[0].baseline_us = 100;
  EXPECT_EQ(second_line(analysis), "Fusing the MLP of this trace would not pay.");
  analysis.mlps[0].predicted_us.reset();
  analysis.mlps[0].hypothetical_us = 50;
  EXPECT_EQ(second_line(analysis), "Do not fuse: there is no kernel for this MLP on NVIDIA H200.");
  EXPECT_NE(to_text(analysis).find("about 50.0 us instead of"), std::string::npos);
  analysis.mlps[0].hypothetical_us.reset();
  EXPECT_EQ(second_line(analysis), "What fusing would save cannot be told from this trace.");
  analysis = test::fused_analysis();
  analysis.mlps[0].verdict = Verdict::do_not_fuse;
  analysis.predicted_saving_us = 0;
  EXPECT_EQ(second_line(analysis), "The MLP of this trace is fused already.");
}

// A prediction that nothing stands beside, as for a GPU from a CPU's trace, is no advice to leave it.
TEST(ReportText, WhatHasNoBaselineCannotBeTold) {
  Analysis analysis = test::geglu_analysis();
  analysis.predicted_saving_us = 0;
  analysis.used = {"H100 SXM", 989e12, 3.35e12, "table", true};
  analysis.mlps[0].verdict = Verdict::do_not_fuse;
  analysis.mlps[0].baseline_us.reset();
  analysis.mlps[0].reason = "no baseline: do this";
  const std::string text = to_text(analysis);
  EXPECT_EQ(second_line(analysis), "What fusing would save on H100 SXM cannot be told from this trace.");
  EXPECT_NE(text.find(" 80.0 us ?\n"), std::string::npos) << text;
  EXPECT_NE(text.find("Cannot be told, #1: No baseline: do this."), std::string::npos) << text;
  EXPECT_EQ(text.find("eave"), std::string::npos) << text;
  EXPECT_NE(to_text(analysis, {120, false}).find(" cannot be told\n"), std::string::npos);
  const std::string page = to_html(analysis);
  EXPECT_NE(page.find("? Cannot be told"), std::string::npos);
  EXPECT_NE(page.find("<div class=\"value\">not known"), std::string::npos);
  analysis.mlps.push_back(analysis.mlps[0]);
  analysis.mlps[1].baseline_us = 81;
  EXPECT_EQ(report::headline(analysis),
            "On H100 SXM, fusing 1 kind of MLP would not pay; of the others it cannot be told.");
}

TEST(ReportText, WhatIsFusedAlreadySaysNothingOfTheRest) {
  Analysis analysis = test::bare_analysis();
  analysis.mlps.push_back(test::fused_analysis().mlps[0]);
  analysis.mlps[1].verdict = Verdict::do_not_fuse;
  analysis.mlps[1].predicted_us.reset();
  analysis.mlps[1].kernels[0].name = "void fusedmlp::sm90::prefill<bf16>(int)";
  EXPECT_EQ(second_line(analysis), "What fusing would save cannot be told from this trace.");
  EXPECT_NE(to_html(analysis).find("<div class=\"value\">not known"), std::string::npos);
}

TEST(ReportText, AGpuWithoutANameIsAGpu) {
  Analysis analysis = test::geglu_analysis();
  analysis.device.reset();
  analysis.used.name = "";
  const std::string text = to_text(analysis);
  EXPECT_NE(text.find("\n60 kernels on a GPU that the trace does not name, 1 copy, 2 memsets, over 3"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("The GPU was busy for 2.40 ms"), std::string::npos) << text;
  EXPECT_EQ(text.find("CPU"), std::string::npos) << text;
  EXPECT_NE(text.find("Device: a GPU that the trace does not name: 989 TFLOP/s"), std::string::npos) << text;
  const std::string page = to_html(analysis);
  EXPECT_NE(page.find("GPU busy"), std::string::npos);
  EXPECT_NE(page.find("Kernels and copies by name"), std::string::npos);
}

TEST(ReportText, AnEmptyTrace) {
  Analysis analysis;
  analysis.path = "empty.json";
  EXPECT_EQ(to_text(analysis), R"(empty.json
No MLP was found in this trace.
No GPU kernel is in this trace: the times of operations on the CPU stand in for
them.
No MLP was found: nothing in it looks like Linear, activation, Linear.
)");
}

}  // namespace
}  // namespace fusedmlp
