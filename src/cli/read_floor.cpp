#include "cli/read_floor.h"

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "cli/measure.h"
#include "core/cost_model.h"
#include "core/dispatch.h"

namespace fusedmlp::cli {
namespace {

constexpr std::size_t kUnit = 1024;  // bytes, what read_once() takes

std::string supported(const core::Query&) { return {}; }
std::size_t no_workspace(const core::Query&) { return 0; }
core::Prediction no_prediction(const core::Query&) { return {}; }

Status read(const core::Problem& problem, const RunArgs& args, const DeviceInfo& device) {
  struct Job {
    Isa isa;
    const std::byte* data;
    std::size_t units;
    int tasks;
    std::atomic<double> sink;  // without a use of what was read nothing would be read
  };
  const double bytes = core::weight_bytes(problem.spec);
  const bool one_thread = 2 * bytes <= static_cast<double>(device.l2_bytes);
  Job job{device.isa, static_cast<const std::byte*>(problem.packed), static_cast<std::size_t>(bytes) / kUnit,
          one_thread ? 1 : std::max(1, args.executor->concurrency()), 0};
  const auto task = [](void* context, int index) {
    Job& j = *static_cast<Job*>(context);
    const auto cut = [&j](int part) {
      return j.units * static_cast<std::size_t>(part) / static_cast<std::size_t>(j.tasks);
    };
    const double value = read_once(j.isa, j.data + cut(index) * kUnit, (cut(index + 1) - cut(index)) * kUnit);
    j.sink.store(value, std::memory_order_relaxed);
  };
  args.executor->parallel(job.tasks, task, &job);
  return {};
}

}  // namespace

const core::KernelEntry& read_floor() {
  static const core::KernelEntry entry{"weights read",
                                       "reads the packed weights and computes nothing",
                                       core::packed_layout(DeviceType::cpu),
                                       &supported,
                                       &no_workspace,
                                       &no_prediction,
                                       &read};
  return entry;
}

}  // namespace fusedmlp::cli
