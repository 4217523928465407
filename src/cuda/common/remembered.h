// A plan chosen once for each MLP, token count and device: the search takes longer than the MLP.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "fusedmlp/device.h"
#include "fusedmlp/spec.h"

namespace fusedmlp::cuda {

// kChoose(spec, tokens, device, options...), remembered on the calling thread; good until its next call.
template <auto kChoose, class... Options>
const auto& remembered(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, Options... options) {
  // Of the device what tells GPUs, and their parts, from each other.
  const std::tuple question(spec, tokens, device.cores, device.compute_capability, device.memory_bandwidth,
                            device.flops_per_core[static_cast<int>(spec.dtype)], options...);
  struct Answer {
    std::remove_const_t<decltype(question)> asked;
    decltype(kChoose(spec, tokens, device, options...)) plan;
  };
  static thread_local std::array<Answer, 64> answers;
  Answer& answer = answers[(hash(spec) + static_cast<std::size_t>(tokens)) % answers.size()];
  if (answer.asked != question) answer = {question, kChoose(spec, tokens, device, options...)};
  return answer.plan;
}

}  // namespace fusedmlp::cuda
