// Builds traces in memory the way Kineto writes them: ops on a thread, each with the kernels that it launched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "trace/join.h"
#include "trace/match.h"
#include "trace/trace.h"

namespace fusedmlp::test {

class TraceBuilder {
 public:
  using Shapes = trace::Shapes;

  // What follows happens on this thread and stream.
  TraceBuilder& on(std::string pid, std::string tid, int device = 0, int stream = 7) {
    pid_ = std::move(pid);
    tid_ = std::move(tid);
    device_ = device;
    stream_ = stream;
    return *this;
  }

  // Opens an op; ops until close() are its children.
  TraceBuilder& open(const std::string& name, const Shapes& dims = {}, const std::string& types = "",
                     const std::string& concrete = "") {
    trace::OpArgs args;
    args.external_id = ++ids_;
    args.sequence = sequence_;
    args.forward_thread = backward_ ? 1 : 0;
    sequence_ = -1;
    if (!dims.empty()) {
      args.dims = static_cast<std::uint32_t>(trace_.shapes.size());
      trace_.shapes.push_back(dims);
    }
    if (!types.empty()) args.types = text(types);
    if (!concrete.empty()) args.concrete = text(concrete);
    trace::Event event = host_event(name, trace::Category::cpu_op);
    event.args = static_cast<std::uint32_t>(trace_.op_args.size());
    trace_.op_args.push_back(args);
    open_.push_back(trace_.events.size());
    trace_.events.push_back(event);
    return *this;
  }

  TraceBuilder& close() {
    trace::Event& event = trace_.events[open_.back()];
    event.duration = now_ - event.start;
    now_ += 10;
    open_.pop_back();
    return *this;
  }

  // An op without children, and the kernels it launches.
  TraceBuilder& op(const std::string& name, const Shapes& dims, const std::string& types = "",
                   const std::vector<std::string>& kernels = {}, const std::string& concrete = "") {
    open(name, dims, types, concrete);
    for (const std::string& kernel : kernels) launch(kernel);
    return close();
  }

  // A kernel launched by the innermost open op, or by no op.
  TraceBuilder& launch(const std::string& kernel, std::int64_t duration = 1000) {
    return device_event(kernel, trace::Category::kernel, duration, true);
  }
  // A kernel of a replayed graph: no launch of its own, no op.
  TraceBuilder& replay(const std::string& kernel, std::int64_t node = -1) {
    device_event(kernel, trace::Category::kernel, 1000, false);
    trace_.device_args.back().graph_node = node;
    return *this;
  }
  // A CUDA graph launched by one call: its kernels have that call's correlation.
  TraceBuilder& launch_graph(const std::vector<std::string>& kernels) {
    const std::int64_t correlation = call("cudaGraphLaunch");
    for (const std::string& kernel : kernels) {
      device_event(kernel, trace::Category::kernel, 1000, false);
      trace_.device_args.back().correlation = correlation;
    }
    return *this;
  }
  // A launch or another call that runs nothing here: within a capture.
  TraceBuilder& runtime(const std::string& name) {
    call(name);
    return *this;
  }
  TraceBuilder& copy(const std::string& name = "Memcpy DtoD (Device -> Device)") {
    return device_event(name, trace::Category::memcpy, 500, !open_.empty());
  }

  // The sequence number of the next op.
  TraceBuilder& sequence(std::int64_t number, bool backward = false) {
    sequence_ = number;
    backward_ = backward;
    return *this;
  }

  trace::Trace trace() {
    std::stable_sort(trace_.events.begin(), trace_.events.end(), [](const trace::Event& a, const trace::Event& b) {
      return a.start != b.start ? a.start < b.start : a.duration > b.duration;
    });
    return std::move(trace_);
  }

  trace::Matches match() {
    const trace::Trace built = trace();
    return trace::match(built, trace::join(built));
  }

 private:
  std::uint32_t text(const std::string& value) {
    const auto [at, fresh] = texts_.try_emplace(value, static_cast<std::uint32_t>(trace_.strings.size()));
    if (fresh) trace_.strings.push_back(value);
    return at->second;
  }

  trace::Event host_event(const std::string& name, trace::Category category) {
    trace::Event event;
    event.start = now_;
    now_ += 10;
    event.name = text(name);
    event.pid = text(pid_);
    event.tid = text(tid_);
    event.category = category;
    return event;
  }

  // A runtime call; returns its correlation.
  std::int64_t call(const std::string& name) {
    trace::Event event = host_event(name, trace::Category::runtime);
    event.duration = 5;
    event.args = static_cast<std::uint32_t>(trace_.runtime_args.size());
    trace::RuntimeArgs args;
    args.correlation = ++ids_;
    trace_.runtime_args.push_back(args);
    trace_.events.push_back(event);
    return args.correlation;
  }

  TraceBuilder& device_event(const std::string& name, trace::Category category, std::int64_t duration,
                             bool launched) {
    trace::DeviceArgs args;
    args.device = device_;
    args.stream = stream_;
    if (launched) {
      args.correlation = call("cudaLaunchKernel");
      if (!open_.empty()) args.external_id = trace_.op_args[trace_.events[open_.back()].args].external_id;
    }
    trace::Event event;
    std::int64_t& busy = busy_until_[device_];
    event.start = std::max(busy + 100, now_ + 500);
    event.duration = duration;
    busy = event.end();
    event.name = text(name);
    event.pid = text(std::to_string(device_));
    event.tid = text(std::to_string(stream_));
    event.category = category;
    event.args = static_cast<std::uint32_t>(trace_.device_args.size());
    trace_.device_args.push_back(args);
    trace_.events.push_back(event);
    return *this;
  }

  trace::Trace trace_;
  std::unordered_map<std::string, std::uint32_t> texts_;
  std::unordered_map<int, std::int64_t> busy_until_;
  std::vector<std::size_t> open_;
  std::string pid_ = "400", tid_ = "400";
  int device_ = 0, stream_ = 7;
  std::int64_t now_ = 0, ids_ = 0, sequence_ = -1;
  bool backward_ = false;
};

}  // namespace fusedmlp::test
