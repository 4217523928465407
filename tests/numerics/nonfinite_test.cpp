// NaN and infinities follow the formulas: where the fp64 truth is NaN every kernel gives NaN, where it is an infinity
// the same infinity, and everywhere else a finite, accurate number. In particular what is put into padding must not
// meet an infinity: the widths are no multiple of anything.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "numerics/problem.h"

namespace fusedmlp::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kRows = 9;

class NonFinite : public ::testing::TestWithParam<MlpSpec> {
 protected:
  NonFinite() : spec_(GetParam()) {
    spec_.d_in = 19;
    spec_.d_hidden = 37;
    spec_.d_out = 21;
    spec_.bias_up = spec_.bias_down = true;
    spec_.bias_gate = spec_.gated;
  }
  Values values() const { return make_values(spec_, kRows, Data::normal, 21); }

  MlpSpec spec_;
};

TEST_P(NonFinite, InTheInput) {
  for (const float special : {kNan, kInf, -kInf}) {
    SCOPED_TRACE(special);
    Values v = values();
    v.x[static_cast<std::size_t>(2 * spec_.d_in + 18)] = special;  // the last column of row 2; other rows stay finite
    v.x[static_cast<std::size_t>(8 * spec_.d_in)] = special;
    expect_accurate(spec_, v, {.aligned = true}, kRows);
    if (HasFailure()) return;
  }
  // Both infinities in one row: their sum is NaN wherever both weights are not zero.
  Values v = values();
  v.x[3] = kInf;
  v.x[7] = -kInf;
  expect_accurate(spec_, v, {.aligned = true}, kRows);
}

TEST_P(NonFinite, InTheWeightsAndBiases) {
  std::vector<float> Values::*const all[] = {&Values::up,        &Values::gate,    &Values::down,
                                             &Values::bias_gate, &Values::bias_up, &Values::bias_down};
  for (const auto member : all) {
    for (const float special : {kNan, kInf, -kInf}) {
      Values v = values();
      if ((v.*member).empty()) continue;
      (v.*member).back() = special;
      expect_accurate(spec_, v, {.aligned = true}, kRows);
      if (HasFailure()) return;
    }
  }
}

// Signed zero times infinity, and rows of zeros: the outputs are NaN exactly where the formula says.
TEST_P(NonFinite, ZeroTimesInfinity) {
  Values v = values();
  std::fill(v.x.begin(), v.x.begin() + spec_.d_in, 0.0f);
  v.up[5] = kInf;
  v.down[static_cast<std::size_t>(2 * spec_.d_hidden + 1)] = -kInf;
  expect_accurate(spec_, v, {.aligned = true}, kRows);
}

INSTANTIATE_TEST_SUITE_P(Forms, NonFinite, ::testing::ValuesIn(all_forms()), [](const auto& form) {
  return std::string(form_name(form.param.activation, form.param.gated)) + "_" + to_string(form.param.dtype);
});

}  // namespace
}  // namespace fusedmlp::test
