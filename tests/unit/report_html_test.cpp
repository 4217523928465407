#include <gtest/gtest.h>

#include <regex>

#include "fusedmlp/report.h"
#include "report/html.h"
#include "unit/report_fixtures.h"

namespace fusedmlp {
namespace {

// Every tag is closed in order; void elements and self-closed SVG elements are not opened.
std::string unbalanced(const std::string& html) {
  static const std::regex tag("<(/?)([a-zA-Z][a-zA-Z0-9]*)([^>]*)>");
  std::vector<std::string> open;
  const std::size_t style = html.find("</style>");
  const std::string body = html.substr(style);
  open.push_back("style");
  for (auto it = std::sregex_iterator(body.begin(), body.end(), tag); it != std::sregex_iterator(); ++it) {
    const std::string name = (*it)[2], rest = (*it)[3];
    if (name == "br" || name == "meta" || rest.ends_with("/")) continue;
    if ((*it)[1].length() == 0) {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return "closes " + name + " inside " + (open.empty() ? "nothing" : open.back());
    } else {
      open.pop_back();
    }
  }
  // head and html were opened before the style sheet
  return open.empty() ? "" : open.back() + " stays open";
}

std::string balanced(const std::string& html) {
  std::string found = unbalanced(html);
  return found == "closes head inside nothing" ? "" : found;
}

std::vector<std::string> pages() {
  const Comparison comparison = compare(test::geglu_analysis(), test::fused_analysis());
  return {to_html(test::geglu_analysis()),
          to_html(test::bare_analysis()),
          to_html(test::hostile_analysis()),
          to_html(Analysis{}),
          to_html(comparison),
          *to_html(std::vector<Comparison>{comparison, comparison})};
}

TEST(ReportHtml, IsOneFileWithoutScript) {
  for (const std::string& page : pages()) {
    EXPECT_TRUE(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
    EXPECT_TRUE(page.ends_with("</html>\n"));
    for (const char* wrong : {"<script", "http:", "https:", "url(//", "@import", "src=", "javascript:", "<link"}) {
      EXPECT_EQ(page.find(wrong), std::string::npos) << wrong;
    }
    EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
    EXPECT_EQ(balanced(page), "");
  }
}

TEST(ReportHtml, HostileNamesStayText) {
  Analysis other = test::fused_analysis();
  other.totals[0].name = other.mlps[0].kernels[0].name = test::kHostile;
  other.path = test::kHostile;
  for (const std::string& page :
       {to_html(test::hostile_analysis()), to_html(compare(test::hostile_analysis(), other))}) {
    EXPECT_EQ(page.find("<script"), std::string::npos);
    EXPECT_EQ(page.find('\033'), std::string::npos);
    EXPECT_EQ(page.find('\xff'), std::string::npos);
    EXPECT_NE(page.find("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"), std::string::npos);
  }
}

TEST(ReportHtml, SaysWhatIsThere) {
  const std::string page = to_html(test::geglu_analysis());
  for (const char* part :
       {"<h1>Fusing the MLP would save about 240\u00A0\u00B5s of 3.00\u00A0ms.</h1>", "id=\"mlp-1\"",
        "id=\"roofline\"", "<title id=\"roof-t\">Roofline of the MLPs</title>", "class=\"timeline\" role=\"img\"",
        "1: gate and up at 0\u00A0\u00B5s, for 45.0\u00A0\u00B5s;", "<em>Name not known</em>", "cuBLAS nvjet",
        "act_and_mul&lt;silu, bf16&gt;", "matrix products 64\u00A0%, intermediates 27\u00A0%", "132\u00D71\u00D71",
        "2 runs over 3.00\u00A0ms"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
}

TEST(ReportHtml, NoRoofWithoutRates) {
  const std::string page = to_html(test::bare_analysis());
  EXPECT_NE(page.find("--peak-flops"), std::string::npos);
  EXPECT_EQ(page.find("class=\"roof\""), std::string::npos);
}

TEST(ReportHtml, AnEmptyTraceHasNoEmptySections) {
  const std::string page = to_html(Analysis{});
  EXPECT_NE(page.find("No MLP was found in this trace."), std::string::npos);
  EXPECT_EQ(page.find("<section id=\"mlps\""), std::string::npos);
  EXPECT_EQ(page.find("href=\"#mlps\""), std::string::npos);
}

TEST(ReportHtml, ManyRowsStayReadable) {
  Analysis analysis = test::geglu_analysis();
  analysis.mlps.resize(45, analysis.mlps[0]);
  analysis.mlps[0].starts_us.assign(100000, 1);
  const std::string page = to_html(analysis);
  EXPECT_NE(page.find("The other 5 rows are in the JSON."), std::string::npos);
  EXPECT_NE(page.find("id=\"mlp-40\""), std::string::npos);
  EXPECT_EQ(page.find("id=\"mlp-41\""), std::string::npos);
  EXPECT_EQ(page.find("href=\"#mlp-41\""), std::string::npos) << "a link to nothing";
  EXPECT_LT(page.size(), 700'000u);
}

TEST(ReportHtml, ComparisonShowsBothTimelines) {
  const std::string page = to_html(compare(test::geglu_analysis(), test::fused_analysis()));
  EXPECT_NE(page.find("One run in geglu</title>"), std::string::npos);
  EXPECT_NE(page.find("One run in fused</title>"), std::string::npos);
  EXPECT_NE(page.find("<span class=\"better\">55.0\u00A0\u00B5s \u25BC</span>"), std::string::npos);
  EXPECT_NE(page.find(">came<"), std::string::npos);
  EXPECT_NE(page.find(">went<"), std::string::npos);
}

TEST(ReportHtml, SeveralVariantsBesideOneBaseline) {
  Analysis compiled = test::geglu_analysis();
  compiled.path = "compiled.trace.json";
  compiled.mlps[0].launches_per_instance = 2;
  Analysis extra = test::fused_analysis();
  extra.mlps.push_back(test::bare_analysis().mlps[0]);
  const Result<std::string> page =
      to_html({compare(test::geglu_analysis(), compiled), compare(test::geglu_analysis(), extra)});
  ASSERT_TRUE(page);
  EXPECT_NE(page->find("geglu against compiled and fused"), std::string::npos);
  EXPECT_NE(page->find("id=\"pair-2\""), std::string::npos) << "the row that only fused has";
  EXPECT_EQ(to_html(std::vector<Comparison>{}).status().argument(), "comparisons");
  EXPECT_EQ(to_html({compare(test::geglu_analysis(), compiled), compare(Analysis{}, extra)}).status().argument(),
            "comparisons");
}

}  // namespace
}  // namespace fusedmlp
