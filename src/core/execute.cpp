#include "core/execute.h"

#include <algorithm>
#include <cstdint>

#include "core/aligned_buffer.h"
#include "core/device.h"
#include "core/format.h"
#include "core/weight_rows.h"

namespace fusedmlp::core {
namespace {

Status wrong(const char* argument, std::string message) {
  return Status(StatusCode::invalid_argument, argument, std::move(message));
}

// Rows of x or y: pointer, alignment, row stride, and the bytes they span.
Status check_rows(const char* name, const char* stride_name, const void* data, std::int64_t stride,
                  std::int64_t width, std::int64_t tokens, DType dtype, ByteRange& range) {
  if (data == nullptr) return wrong(name, core::format("is null with {} tokens", tokens));
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(data);
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  if (begin % size_of(dtype) != 0) {
    return wrong(
        name, core::format("must be aligned to the {} bytes of a {} element, got {}", size, to_string(dtype), data));
  }
  if (stride < width) return wrong(stride_name, core::format("must be 0 or at least {}, got {}", width, stride));
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(tokens - 1, stride, &bytes) || __builtin_add_overflow(bytes, width, &bytes) ||
      __builtin_mul_overflow(bytes, size, &bytes) || static_cast<std::uintptr_t>(bytes) > UINTPTR_MAX - begin) {
    return wrong("tokens", core::format("{} rows of stride {} do not fit into memory", tokens, stride));
  }
  range = {begin, begin + static_cast<std::uintptr_t>(bytes)};
  return {};
}

struct Named {
  const char* name;
  ByteRange range;
};

Status overlap(const char* written, const ByteRange& range, const Named& other) {
  return wrong(written, core::format("overlaps {}: bytes [{:#x}, {:#x}) and [{:#x}, {:#x})", other.name, range.begin,
                                     range.end, other.range.begin, other.range.end));
}

std::int64_t or_default(std::int64_t stride, std::int64_t width) { return stride == 0 ? width : stride; }

// A caller's executor, with the concurrency that was asked once: PyTorch's changes when any thread sets another, and
// a kernel lays out its workspace by it.
class SameConcurrency final : public Executor {
 public:
  SameConcurrency(Executor& executor, int threads) : executor_(executor), threads_(threads) {}
  int concurrency() const noexcept override { return threads_; }
  void parallel(int count, void (*task)(void* context, int index), void* context) override {
    executor_.parallel(count, task, context);
  }

 private:
  Executor& executor_;
  int threads_;
};

}  // namespace

Status validate(const Problem& problem, std::size_t packed_bytes, const RunArgs& args) {
  const MlpSpec& spec = problem.spec;
  const MlpWeights& w = problem.weights;
  if (args.tokens < 0) return wrong("tokens", core::format("must be >= 0, got {}", args.tokens));
  if (args.tokens == 0) return {};

  ByteRange x;
  ByteRange y;
  if (Status status =
          check_rows("x", "ldx", args.x, or_default(args.ldx, spec.d_in), spec.d_in, args.tokens, spec.dtype, x);
      !status) {
    return status;
  }
  if (Status status =
          check_rows("y", "ldy", args.y, or_default(args.ldy, spec.d_out), spec.d_out, args.tokens, spec.dtype, y);
      !status) {
    return status;
  }

  const auto packed_begin = reinterpret_cast<std::uintptr_t>(problem.packed);
  if (packed_begin % kAlignment != 0) {
    return wrong("packed", core::format("must be {}-byte aligned, got {}", kAlignment, problem.packed));
  }
  const Named read[] = {
      {"x", x},
      {"gate", bytes_of(w.gate, spec.dtype)},
      {"up", bytes_of(w.up, spec.dtype)},
      {"gate_up", bytes_of(w.gate_up, spec.dtype)},
      {"down", bytes_of(w.down, spec.dtype)},
      {"bias_gate", bytes_of(w.bias_gate, spec.dtype)},
      {"bias_up", bytes_of(w.bias_up, spec.dtype)},
      {"bias_gate_up", bytes_of(w.bias_gate_up, spec.dtype)},
      {"bias_down", bytes_of(w.bias_down, spec.dtype)},
      {"packed", {packed_begin, problem.packed == nullptr ? packed_begin : packed_begin + packed_bytes}},
  };
  ByteRange workspace;
  if (args.workspace != nullptr) {
    const auto begin = reinterpret_cast<std::uintptr_t>(args.workspace);
    if (begin % kAlignment != 0) {
      return wrong("workspace", core::format("must be {}-byte aligned, got {}", kAlignment, args.workspace));
    }
    if (args.workspace_bytes > UINTPTR_MAX - begin) {
      return wrong("workspace_bytes", core::format("{} bytes do not fit into memory", args.workspace_bytes));
    }
    workspace = {begin, begin + args.workspace_bytes};
    if (workspace.overlaps(y)) return overlap("workspace", workspace, {"y", y});
  }
  for (const Named& other : read) {
    if (y.overlaps(other.range)) return overlap("y", y, other);
    if (workspace.overlaps(other.range)) return overlap("workspace", workspace, other);
  }
  return {};
}

Result<Prepared> prepare(const Problem& problem, std::size_t packed_bytes, const RunArgs& args,
                         const DeviceInfo& device) {
  if (Status status = validate(problem, packed_bytes, args); !status) return status;
  Prepared prepared;
  if (args.tokens == 0) return prepared;

  prepared.args = args;
  prepared.args.ldx = or_default(args.ldx, problem.spec.d_in);
  prepared.args.ldy = or_default(args.ldy, problem.spec.d_out);
  const bool on_cpu = device.device.type == DeviceType::cpu;
  if (on_cpu && args.executor == nullptr) prepared.args.executor = &default_executor();
  prepared.device = &device;
  if (!on_cpu) {
    const int cores = cuda_stream_cores(device.device.index, args.stream);
    if (cores > 0 && cores < device.cores) {
      const Result<const DeviceInfo*> part = find_partition(device.device, cores);
      if (!part) return part.status();
      prepared.device = *part;
    }
  }
  Query query{problem.spec, args.tokens, *prepared.device, 1, problem.packed != nullptr};
  if (on_cpu) {
    query.threads = prepared.threads = std::max(1, prepared.args.executor->concurrency());
  } else {
    query.operands = layout_of(problem.spec, problem.weights, prepared.args);
  }
  const Result<Choice> choice = decide(query);
  if (!choice) return choice.status();
  prepared.choice = *choice;
  if (args.workspace != nullptr && args.workspace_bytes < choice->workspace_bytes) {
    return wrong("workspace_bytes",
                 core::format("{} needs at least {} bytes for {} tokens on {} threads, got {}", choice->entry->name,
                              choice->workspace_bytes, args.tokens, query.threads, args.workspace_bytes));
  }
  return prepared;
}

Status run(const Problem& problem, const Prepared& prepared) {
  if (prepared.args.executor == nullptr) return prepared.choice.entry->run(problem, prepared.args, *prepared.device);
  SameConcurrency executor(*prepared.args.executor, prepared.threads);
  RunArgs args = prepared.args;
  args.executor = &executor;
  return prepared.choice.entry->run(problem, args, *prepared.device);
}

int threads_of(const DeviceInfo& device) {
  return device.device.type == DeviceType::cpu ? std::max(1, default_executor().concurrency()) : 1;
}

std::size_t workspace_bytes(const MlpSpec& spec, std::int64_t tokens, const DeviceInfo& device, int threads,
                            bool packed) {
  std::size_t most = 0;
  if (tokens <= 0) return most;
  if (device.device.type != DeviceType::cpu) {  // which entry runs depends on how x and y lie
    const Query query{spec, tokens, device, 1, packed};
    for (const KernelEntry& entry : kernels(device.device.type)) {
      if (entry.unsupported(query).empty()) most = std::max(most, entry.workspace_bytes(query));
    }
    return most;
  }
  for (int t = 1; t <= threads; ++t) {  // fewer threads may make another kernel the cheapest
    const Query query{spec, tokens, device, t, packed};
    const Result<std::vector<Candidate>> list = candidates(query);
    if (!list) return most;  // run() says why
    for (const Candidate& candidate : *list) {
      if (candidate.chosen) most = std::max(most, candidate.entry->workspace_bytes(query));
    }
  }
  return most;
}

Result<std::string> explain(const Query& query) {
  if (query.tokens < 0) return wrong("tokens", core::format("must be >= 0, got {}", query.tokens));
  const Result<std::vector<Candidate>> list = candidates(query);
  if (!list) return list.status();
  return explain_text(query, *list);
}

}  // namespace fusedmlp::core
