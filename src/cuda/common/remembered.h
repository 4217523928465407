// A plan chosen once for each MLP, token count and device: the search takes longer than the MLP.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cuda {

// kChoose(spec, tokens, device), remembered on the calling thread; good until its next call.
template <auto kChoose>
const auto& remembered(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device) {
  struct Answer {
    MlpSpec spec;
    std::int64_t tokens = 0;
    int cores = 0;
    double bandwidth = 0;
    decltype(kChoose(spec, tokens, device)) plan;
  };
  static thread_local std::array<Answer, 64> answers;
  Answer& answer = answers[(hash(spec) + static_cast<std::size_t>(tokens)) % answers.size()];
  if (answer.tokens != tokens || answer.spec != spec || answer.cores != device.cores ||
      answer.bandwidth != device.memory_bandwidth) {
    answer = {spec, tokens, device.cores, device.memory_bandwidth, kChoose(spec, tokens, device)};
  }
  return answer.plan;
}

}  // namespace fusedmlp::cuda
