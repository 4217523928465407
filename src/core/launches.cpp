#include "core/launches.h"

#include "core/format.h"

namespace fusedmlp::core {

std::string to_string(const LaunchRecord& record) {
  std::string text;
  if (record.times > 1) text += core::format("{} x ", record.times);
  text += core::format("{} block{} of {} threads, {} registers, {:.1f} KB shared memory", record.blocks,
                       record.blocks == 1 ? "" : "s", record.threads, record.registers,
                       static_cast<double>(record.shared_bytes) / 1024);
  return record.what.empty() ? text : text + ": " + record.what;
}

std::vector<LaunchRecord> launches(const KernelEntry& entry, const Query& query) {
  if (query.device.device.type != DeviceType::cuda || query.tokens < 1 || !entry.unsupported(query).empty())
    return {};
  return cuda_launches(entry, query);
}

}  // namespace fusedmlp::core
