// A trace in memory: one Event a record, strings and shapes kept once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fusedmlp::trace {

inline constexpr std::uint32_t kNone = 0xffffffffu;

enum class Category : std::uint8_t {
  cpu_op,
  user_annotation,
  gpu_user_annotation,
  kernel,
  memcpy,
  memset,
  runtime,  // cuda_runtime, cuda_driver, hip_runtime, Runtime
  python_function,
  overhead,
  sync,
  other,
};

// Times are nanoseconds from the trace's own zero.
struct Event {
  std::int64_t start = 0;
  std::int64_t duration = 0;
  std::uint32_t name = kNone;  // Trace::string
  std::uint32_t pid = kNone;   // Trace::string: ids may be numbers or text
  std::uint32_t tid = kNone;
  std::uint32_t args = kNone;  // index into the side table of its category: device_args, op_args or runtime_args
  Category category = Category::other;

  std::int64_t end() const { return start + duration; }
};

// kernel, memcpy, memset. -1: not in the file.
struct DeviceArgs {
  std::int64_t external_id = -1;
  std::int64_t correlation = -1;
  std::int32_t device = -1;
  std::int64_t stream = -1;
  std::int32_t grid[3] = {-1, -1, -1};
  std::int32_t block[3] = {-1, -1, -1};
  std::int32_t registers = -1;
  std::int32_t shared_memory = -1;
  std::int64_t graph = -1;
  std::int64_t graph_node = -1;
  std::int64_t bytes = -1;  // memcpy, memset
};

struct OpArgs {
  std::int64_t external_id = -1;
  std::int64_t sequence = -1;        // forward and backward of an op share it
  std::int64_t forward_thread = -1;  // set on backward ops
  std::uint32_t dims = kNone;        // Trace::shapes
  std::uint32_t strides = kNone;     // Trace::shapes
  std::uint32_t types = kNone;       // Trace::string: JSON list text as in the file, "[\"c10::BFloat16\",\"\"]"
  std::uint32_t concrete = kNone;    // Trace::string: JSON list text
};

struct RuntimeArgs {
  std::int64_t correlation = -1;
  std::int64_t external_id = -1;
};

// The list of an op's inputs; an input that is no tensor has no dims.
using Shapes = std::vector<std::vector<std::int64_t>>;

struct DeviceProperties {
  std::int64_t id = -1;
  std::string name;
  int compute_major = -1;
  int compute_minor = -1;
  int sms = -1;
  std::int64_t memory_bytes = -1;
  int max_threads_per_sm = -1;
  int registers_per_sm = -1;
  std::int64_t shared_memory_per_sm = -1;
};

struct Trace {
  std::vector<Event> events;  // by start; of equal starts the longer first
  std::vector<DeviceArgs> device_args;
  std::vector<OpArgs> op_args;
  std::vector<RuntimeArgs> runtime_args;
  std::vector<std::string> strings;
  std::vector<Shapes> shapes;
  std::vector<DeviceProperties> devices;
  std::vector<std::string> warnings;

  std::string_view text(std::uint32_t id) const {
    return id == kNone ? std::string_view() : std::string_view(strings[id]);
  }
};

}  // namespace fusedmlp::trace
