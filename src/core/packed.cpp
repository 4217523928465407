#include "fusedmlp/packed.h"

#include <cstdint>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/device.h"
#include "core/execute.h"
#include "core/format.h"
#include "core/guarded.h"
#include "core/weight_rows.h"

namespace fusedmlp {
inline namespace v0 {
namespace {

using core::AlignedBuffer;

// The calling thread's workspace. A run inside a run on the same thread finds it taken and gets its own.
class ThreadArena {
 public:
  explicit ThreadArena(std::size_t bytes) : buffer_(std::exchange(kept(), AlignedBuffer())) {
    if (buffer_.size() >= bytes) return;
    buffer_ = AlignedBuffer();  // freed first: the two need not fit side by side
    buffer_ = AlignedBuffer(bytes);
  }
  ~ThreadArena() {
    if (buffer_.size() > kept().size()) kept() = std::move(buffer_);
  }
  ThreadArena(const ThreadArena&) = delete;
  ThreadArena& operator=(const ThreadArena&) = delete;

  const AlignedBuffer& buffer() const { return buffer_; }

 private:
  static AlignedBuffer& kept() {
    thread_local AlignedBuffer arena;
    return arena;
  }

  AlignedBuffer buffer_;
};

// 0 where there is no layout.
std::size_t layout_bytes(const MlpSpec& spec, const DeviceInfo& device) {
  const core::PackedLayout* layout = core::packed_layout(device.device.type);
  return layout == nullptr ? 0 : layout->bytes(spec, device);
}

}  // namespace

std::size_t packed_bytes(const MlpSpec& spec, Device device) {
  if (!validate(spec)) return 0;
  const Result<const DeviceInfo*> info = core::find_device(device);
  return info ? layout_bytes(spec, **info) : 0;
}

Status pack(const MlpSpec& spec, const MlpWeights& weights, void* packed, Device device, Executor* executor) {
  return core::guarded([&]() -> Status {
    if (Status status = validate(spec, weights); !status) return status;
    const Result<const DeviceInfo*> info = core::find_device(device);
    if (!info) return info.status();
    const std::size_t bytes = layout_bytes(spec, **info);
    if (bytes == 0) return {};
    if (packed == nullptr || reinterpret_cast<std::uintptr_t>(packed) % core::kAlignment != 0) {
      return Status(StatusCode::invalid_argument, "packed",
                    core::format("must point to {} bytes aligned to {}, got {}", bytes, core::kAlignment, packed));
    }
    return core::packed_layout(device.type)
        ->pack(spec, core::normalized(weights), **info, packed, executor == nullptr ? default_executor() : *executor);
  });
}

Result<Selection> select(const MlpSpec& spec, const MlpWeights& weights, const void* packed, const RunArgs& args,
                         Device device) {
  return core::guarded([&]() -> Result<Selection> {
    if (Status status = validate(spec, weights); !status) return status;
    const Result<const DeviceInfo*> info = core::find_device(device);
    if (!info) return info.status();
    const std::size_t bytes = layout_bytes(spec, **info);
    const MlpWeights plain = core::normalized(weights);
    RunArgs without = args;
    without.workspace = nullptr;
    const Result<core::Prepared> prepared =
        core::prepare({spec, plain, bytes == 0 ? nullptr : packed}, bytes, without, **info);
    if (!prepared) return prepared.status();
    const core::Choice& choice = prepared->choice;
    if (choice.entry == nullptr) return Selection{};
    Selection out;
    out.kernel = choice.entry->name;
    out.workspace_bytes = choice.workspace_bytes;
    out.seconds = choice.seconds;
    out.library_seconds = choice.fusing.library_seconds;
    out.pays = choice.fusing.pays;
    return out;
  });
}

Status run(const MlpSpec& spec, const MlpWeights& weights, const void* packed, const RunArgs& args, Device device) {
  return core::guarded([&]() -> Status {
    if (Status status = validate(spec, weights); !status) return status;
    const Result<const DeviceInfo*> info = core::find_device(device);
    if (!info) return info.status();
    const std::size_t bytes = layout_bytes(spec, **info);
    const MlpWeights plain = core::normalized(weights);
    const core::Problem problem{spec, plain, bytes == 0 ? nullptr : packed};
    Result<core::Prepared> prepared = core::prepare(problem, bytes, args, **info);
    if (!prepared) return prepared.status();
    if (prepared->choice.entry == nullptr) return {};
    RunArgs& ready = prepared->args;
    if (ready.workspace != nullptr || prepared->choice.workspace_bytes == 0) {
      return core::run(problem, *prepared);
    }
    if (device.type != DeviceType::cpu) {
      return Status(StatusCode::invalid_argument, "workspace",
                    core::format("must be given on {} without a plan: {} bytes", to_string(device),
                                 prepared->choice.workspace_bytes));
    }
    const ThreadArena arena(prepared->choice.workspace_bytes);
    ready.workspace = arena.buffer().data();
    ready.workspace_bytes = arena.buffer().size();
    return core::run(problem, *prepared);
  });
}

}  // namespace v0
}  // namespace fusedmlp
