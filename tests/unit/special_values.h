// Infinities and NaN through activations, for every way to compute them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/activation.h"

namespace fusedmlp::cpu {

// activate(spec, gate, up, out, count) on `lanes` values: NaN where the formulas give NaN, infinity where they do.
template <class Activate>
void expect_inf_and_nan_follow_the_formulas(int lanes, const Activate& activate) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float special[] = {inf, -inf, nan, -nan, 0.0f, -0.0f, 1e30f, -1e30f};
  const auto count = static_cast<std::size_t>(lanes);
  for (int i = 0; i < kActivationCount; ++i) {
    for (const bool gated : {false, true}) {
      const MlpSpec spec{.activation = static_cast<Activation>(i), .gated = gated};
      if (spec.activation == Activation::swiglu_oai && !gated) continue;
      for (const float g : special) {
        for (const float u : special) {
          const std::vector<float> gate(count, g), up(count, u);
          std::vector<float> out(count);
          activate(spec, gate.data(), up.data(), out.data(), std::int64_t{lanes});
          const float want = gated ? core::gated<float>(spec, g, u) : core::activate<float>(spec.activation, g);
          EXPECT_EQ(std::isnan(out[0]), std::isnan(want))
              << form_name(spec.activation, gated) << " " << g << " " << u;
          if (std::isinf(want)) {
            EXPECT_EQ(out[0], want) << form_name(spec.activation, gated) << " " << g << " " << u;
          }
        }
      }
    }
  }
}

}  // namespace fusedmlp::cpu
