#include <gtest/gtest.h>

#include <limits>

#include "report/figures.h"
#include "report/wording.h"
#include "unit/report_fixtures.h"

namespace fusedmlp::report {
namespace {

TEST(ReportNumbers, TimesHaveThreeDigits) {
  EXPECT_EQ(time_text(0), "0 us");
  EXPECT_EQ(time_text(0.812), "812 ns");
  EXPECT_EQ(time_text(0.9996), "1.00 us");
  EXPECT_EQ(time_text(9.996), "10.0 us");
  EXPECT_EQ(time_text(12.34), "12.3 us");
  EXPECT_EQ(time_text(99.96), "100 us");
  EXPECT_EQ(time_text(999.6), "1.00 ms");
  EXPECT_EQ(time_text(4560), "4.56 ms");
  EXPECT_EQ(time_text(1.23e6), "1.23 s");
  EXPECT_EQ(time_text(2e9), "2000 s");
  EXPECT_EQ(time_text(-12.34), "-12.3 us");
  EXPECT_EQ(time_text(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(time_text(std::optional<double>()), "-");
}

TEST(ReportNumbers, CountsSharesAndRates) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(-1234567), "-1,234,567");
  EXPECT_EQ(share_text(1, 3), "33 %");
  EXPECT_EQ(share_text(1, 1000), "under 1 %");
  EXPECT_EQ(share_text(0, 1000), "0 %");
  EXPECT_EQ(share_text(1, 0), "");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1234), "1.23 kB");
  EXPECT_EQ(bytes_text(4.096e9), "4.10 GB");
  EXPECT_EQ(rate_text(989e12, "FLOP/s"), "989 TFLOP/s");
  EXPECT_EQ(rate_text(4.8e12, "B/s"), "4.80 TB/s");
  EXPECT_EQ(plural(1, "copy", "copies"), "1 copy");
  EXPECT_EQ(plural(1200, "copy", "copies"), "1,200 copies");
}

TEST(ReportNumbers, CleanKeepsTextAndDropsControls) {
  EXPECT_EQ(clean("gelu<bf16> \u00B5 \u20AC \U0001F600"), "gelu<bf16> \u00B5 \u20AC \U0001F600");
  EXPECT_EQ(clean("a\nb\tc"), "a b c");
  EXPECT_EQ(clean("\033[31m"), "\uFFFD[31m");
  EXPECT_EQ(clean(std::string_view("a\0b", 3)), "a\uFFFDb");
  EXPECT_EQ(clean("\xc2\x9b"), "\uFFFD") << "the C1 form of a terminal escape";
  EXPECT_EQ(clean("\xff\xc0\xaf"), "\uFFFD\uFFFD\uFFFD") << "no UTF-8, overlong";
  EXPECT_EQ(clean("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD") << "a surrogate";
  EXPECT_EQ(clean("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD") << "above U+10FFFF";
  EXPECT_EQ(clean("\xe2\x82"), "\uFFFD\uFFFD") << "cut short";
}

TEST(ReportFigures, ArithmeticAndBytesOfAGatedMlp) {
  const MlpRow row = test::geglu_analysis().mlps[0];
  EXPECT_EQ(flops(row), 2.0 * 4096 * 3 * 768 * 3072);
  const double weights = 3.0 * 768 * 3072, x = 4096.0 * 768, hidden = 4096.0 * 3072;
  EXPECT_EQ(least_bytes(row), 2 * (weights + 2 * x));
  // x and both weights to 2 hidden; those to one; that and the last weight to y
  EXPECT_EQ(modelled_bytes(row), 2 * ((x + weights * 2 / 3 + 2 * hidden) + 3 * hidden + (hidden + weights / 3 + x)));
  EXPECT_EQ(saving_us(Analysis{}, row), 12 * (100 - 80.0));
  Analysis other;
  other.used.target = true;
  EXPECT_FALSE(saving_us(other, row)) << "a time here and a prediction there have no difference";
}

TEST(ReportFigures, OverheadBoundRowsAreComparedByTheirSpan) {
  MlpRow row = test::geglu_analysis().mlps[0];
  row.regime = Regime::overhead;
  EXPECT_EQ(now_us(row), 110);
  EXPECT_EQ(saving_us(Analysis{}, row), 12 * (110 - 80.0));
}

TEST(ReportFigures, AFusedRowMovesTheLeast) {
  const MlpRow row = test::fused_analysis().mlps[0];
  EXPECT_EQ(modelled_bytes(row), least_bytes(row));
}

TEST(ReportFigures, ExpertsAndBackward) {
  MlpRow row = test::geglu_analysis().mlps[0];
  const double one = *flops(row);
  row.phase = Phase::backward;
  EXPECT_EQ(flops(row), 2 * one);
  EXPECT_FALSE(least_bytes(row));
  row.phase = Phase::forward;
  row.experts = 64;
  EXPECT_FALSE(flops(row)) << "how many a token visits is not known";
  row.top_k = 2;
  EXPECT_EQ(flops(row), 2 * one);
  EXPECT_FALSE(modelled_bytes(row));
  row.tokens = 3;  // visit at most 6 of the 64
  EXPECT_EQ(least_bytes(row), 2 * (6.0 * 3 * 768 * 3072 + 3 * 2 * 768));
}

TEST(ReportFigures, NothingIsInventedForUnknownWidths) {
  const MlpRow row = test::bare_analysis().mlps[0];
  EXPECT_FALSE(flops(row));
  EXPECT_FALSE(least_bytes(row));
  EXPECT_FALSE(modelled_bytes(row));
  EXPECT_FALSE(saving_us(Analysis{}, row));
}

}  // namespace
}  // namespace fusedmlp::report
