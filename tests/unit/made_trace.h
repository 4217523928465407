// A trace made by hand: kernels, the calls that launched them, and one MLP of them. Times in microseconds.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "trace/assess.h"

namespace fusedmlp::trace {

inline DeviceProperties device(const char* name, int major, int minor, int sms) {
  DeviceProperties out;
  out.id = 0;
  out.name = name;
  out.compute_major = major;
  out.compute_minor = minor;
  out.sms = sms;
  out.max_threads_per_sm = 2048;
  out.registers_per_sm = 65536;
  out.shared_memory_per_sm = 233472;
  return out;
}

inline DeviceProperties h200() { return device("NVIDIA H200", 9, 0, 132); }

class MadeTrace {
 public:
  explicit MadeTrace(const DeviceProperties& properties = h200()) { trace_.devices = {properties}; }

  std::uint32_t kernel(const char* name, double begin, double end) {
    DeviceArgs args;
    args.device = 0;
    args.stream = 7;
    trace_.device_args.push_back(args);
    const std::uint32_t event = add(Category::kernel, name, begin, end, "0", "7");
    trace_.events[event].args = static_cast<std::uint32_t>(trace_.device_args.size() - 1);
    joined_.links.push_back({event, kNone, kNone, JoinedBy::none, 0});
    return event;
  }

  // The same, and the call of host thread 1 that launched it.
  std::uint32_t launched(const char* name, double begin, double end, double call_begin, double call_end) {
    const std::uint32_t call = runtime("cudaLaunchKernel", call_begin, call_end);
    const std::uint32_t event = kernel(name, begin, end);
    joined_.links.back() = {event, kNone, call, JoinedBy::correlation, 1};
    return event;
  }

  std::uint32_t runtime(const char* name, double begin, double end, const char* thread = "1") {
    return add(Category::runtime, name, begin, end, "100", thread);
  }

  std::uint32_t add(Category category, const char* name, double begin, double end, const char* pid = "100",
                    const char* tid = "1") {
    Event event;
    event.category = category;
    event.name = text(name);
    event.pid = text(pid);
    event.tid = text(tid);
    event.start = static_cast<std::int64_t>(begin * 1000);
    event.duration = static_cast<std::int64_t>(end * 1000) - event.start;
    trace_.events.push_back(event);
    return static_cast<std::uint32_t>(trace_.events.size() - 1);
  }

  // Device events have to be added in order of their start; the order of the others does not matter to an Assessor.
  Trace& trace() { return trace_; }
  const Joined& joined() {
    joined_.parent.assign(trace_.events.size(), kNone);
    return joined_;
  }

 private:
  std::uint32_t text(const std::string& word) {
    for (std::uint32_t i = 0; i < trace_.strings.size(); ++i) {
      if (trace_.strings[i] == word) return i;
    }
    trace_.strings.push_back(word);
    return static_cast<std::uint32_t>(trace_.strings.size() - 1);
  }

  Trace trace_;
  Joined joined_;
};

inline Instance instance_of(std::initializer_list<Part> parts) {
  Instance out;
  out.parts = parts;
  return out;
}

// GeGLU 768x3072 in bf16.
inline MlpRow geglu(std::int64_t tokens, double us, double gap = 0) {
  MlpRow row;
  row.kind = "geglu";
  row.gated = true;
  row.tokens = tokens;
  row.d_in = row.d_out = 768;
  row.d_hidden = 3072;
  row.dtype = "bf16";
  row.bias = false;
  row.instances = 1;
  row.us_per_instance = us;
  row.gap_us_per_instance = gap;
  row.span_us_per_instance = us + gap;
  return row;
}

}  // namespace fusedmlp::trace
