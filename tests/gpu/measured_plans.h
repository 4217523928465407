// Predictions of plans held against measured times of many.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace fusedmlp::test {

class MeasuredPlans {
 public:
  void add(const std::string& spec, std::int64_t tokens, double seconds, double predicted) {
    groups_[{spec, tokens}].push_back({seconds, predicted});
  }

  // In each group the plan with the least prediction loses at most most_lost against the fastest, mean_lost in the
  // mean of the groups; predictions are off by at most mean_error in the mean.
  void expect(std::size_t groups, double most_lost, double mean_lost, double mean_error) const {
    EXPECT_EQ(groups_.size(), groups);
    double error = 0, lost = 0;
    int count = 0;
    for (const auto& [key, all] : groups_) {
      Measured chosen = all.front(), best = all.front();
      for (const Measured& one : all) {
        error += std::abs(one.predicted / one.seconds - 1);
        ++count;
        if (one.predicted < chosen.predicted) chosen = one;
        if (one.seconds < best.seconds) best = one;
      }
      EXPECT_LT(chosen.seconds / best.seconds - 1, most_lost) << key.first << " at " << key.second;
      lost += chosen.seconds / best.seconds - 1;
    }
    EXPECT_LT(error / count, mean_error);
    EXPECT_LT(lost / static_cast<double>(groups_.size()), mean_lost);
  }

 private:
  struct Measured {
    double seconds, predicted;
  };
  std::map<std::pair<std::string, std::int64_t>, std::vector<Measured>> groups_;
};

}  // namespace fusedmlp::test
