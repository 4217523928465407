#include "fusedmlp/plan.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/device.h"
#include "core/execute.h"
#include "core/guarded.h"
#include "core/weight_rows.h"

namespace fusedmlp {
inline namespace v0 {
namespace {

using core::AlignedBuffer;
using core::guarded;

// Workspaces that are not in use. Each run takes one and gives it back, so that concurrent runs never share
// one and runs after the first few allocate nothing.
class WorkspacePool {
 public:
  // The smallest that is large enough; else a new one, which replaces the largest of the idle ones.
  AlignedBuffer take(std::size_t bytes) {
    AlignedBuffer outgrown;  // freed after the lock is released
    {
      const std::lock_guard lock(mutex_);
      auto best = idle_.end();
      auto largest = idle_.end();
      for (auto it = idle_.begin(); it != idle_.end(); ++it) {
        if (it->size() >= bytes && (best == idle_.end() || it->size() < best->size())) best = it;
        if (largest == idle_.end() || it->size() > largest->size()) largest = it;
      }
      const auto taken = best != idle_.end() ? best : largest;
      if (taken != idle_.end()) {
        std::swap(*taken, idle_.back());
        outgrown = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    if (outgrown.size() >= bytes) return outgrown;
    outgrown = AlignedBuffer();
    return AlignedBuffer(bytes);
  }

  void give(AlignedBuffer buffer) noexcept {
    const std::lock_guard lock(mutex_);
    try {
      idle_.push_back(std::move(buffer));
    } catch (const std::bad_alloc&) {  // the buffer is freed: the next run allocates again
    }
  }

 private:
  std::mutex mutex_;
  std::vector<AlignedBuffer> idle_;
};

// A taken workspace, given back at the end of the scope.
class Lease {
 public:
  Lease(WorkspacePool& pool, std::size_t bytes) : pool_(pool), buffer_(pool.take(bytes)) {}
  ~Lease() { pool_.give(std::move(buffer_)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const AlignedBuffer& buffer() const { return buffer_; }

 private:
  WorkspacePool& pool_;
  AlignedBuffer buffer_;
};

Status moved_from() { return Status(StatusCode::invalid_argument, "plan", "was moved from"); }

}  // namespace

struct Plan::Impl {
  MlpSpec spec;
  MlpWeights weights;
  const DeviceInfo* device = nullptr;
  const core::PackedLayout* layout = nullptr;  // null: no packed copy is kept
  std::size_t packed_bytes = 0;
  AlignedBuffer packed;
  mutable WorkspacePool workspaces;
  std::unique_ptr<core::DeviceArena> arena;  // in place of them on a GPU
  mutable std::mutex queueing;               // of runs that use the arena

  core::Problem problem() const { return {spec, weights, packed.data()}; }

  Status set_weights(const MlpWeights& given) {
    if (Status status = fusedmlp::validate(spec, given); !status) return status;
    weights = core::normalized(given);
    if (layout == nullptr) return {};
    return layout->pack(spec, weights, *device, packed.data(), default_executor());
  }

  Status run(const RunArgs& args) const {
    Result<core::Prepared> prepared = core::prepare(problem(), packed_bytes, args, *device);
    if (!prepared) return prepared.status();
    if (prepared->choice.entry == nullptr) return {};
    RunArgs& ready = prepared->args;
    if (ready.workspace != nullptr || prepared->choice.workspace_bytes == 0) {
      return core::run(problem(), *prepared);
    }
    if (arena != nullptr) {
      // Threads that share a stream share its workspace: the launches of one run must not fall between another's.
      const std::lock_guard lock(queueing);
      const Result<void*> workspace = arena->workspace(prepared->choice.workspace_bytes, ready.stream);
      if (!workspace) return workspace.status();
      ready.workspace = *workspace;
      ready.workspace_bytes = prepared->choice.workspace_bytes;
      return core::run(problem(), *prepared);
    }
    const Lease lease(workspaces, prepared->choice.workspace_bytes);
    ready.workspace = lease.buffer().data();
    ready.workspace_bytes = lease.buffer().size();
    return core::run(problem(), *prepared);
  }
};

Plan::Plan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;
Plan::~Plan() = default;

Result<Plan> Plan::create(const MlpSpec& spec, const MlpWeights& weights, Device device, const PlanOptions& options) {
  return guarded([&]() -> Result<Plan> {
    if (Status status = validate(spec, weights); !status) return status;
    const Result<const DeviceInfo*> info = core::find_device(device);
    if (!info) return info.status();
    auto impl = std::make_unique<Impl>();
    impl->spec = spec;
    impl->device = *info;
    const core::PackedLayout* layout = options.pack ? core::packed_layout(device.type) : nullptr;
    const std::size_t bytes = layout == nullptr ? 0 : layout->bytes(spec, **info);
    if (bytes > 0) {
      impl->layout = layout;
      impl->packed_bytes = bytes;
      impl->packed = AlignedBuffer(bytes);
    }
    if (device.type == DeviceType::cuda) {
      Result<std::unique_ptr<core::DeviceArena>> arena = core::make_cuda_arena(device.index);
      if (!arena) return arena.status();
      impl->arena = std::move(*arena);
    }
    if (Status status = impl->set_weights(weights); !status) return status;
    return Plan(std::move(impl));
  });
}

Status Plan::run(const void* x, void* y, std::int64_t tokens) const {
  RunArgs args;
  args.x = x;
  args.y = y;
  args.tokens = tokens;
  return run(args);
}

Status Plan::run(const RunArgs& args) const {
  if (impl_ == nullptr) return moved_from();
  return guarded([&] { return impl_->run(args); });
}

Status Plan::update_weights(const MlpWeights& weights) {
  if (impl_ == nullptr) return moved_from();
  return guarded([&] { return impl_->set_weights(weights); });
}

std::size_t Plan::workspace_bytes(std::int64_t tokens) const {
  return core::workspace_bytes(impl_->spec, tokens, *impl_->device, core::threads_of(*impl_->device),
                               impl_->layout != nullptr);
}

std::size_t Plan::packed_bytes() const { return impl_->packed_bytes; }

const MlpSpec& Plan::spec() const { return impl_->spec; }

Device Plan::device() const { return impl_->device->device; }

std::string Plan::explain(std::int64_t tokens) const {
  const Result<std::string> text = guarded([&] {
    core::Query query{impl_->spec, tokens, *impl_->device, core::threads_of(*impl_->device),
                      impl_->layout != nullptr};
    if (impl_->device->device.type != DeviceType::cpu) {
      query.operands = core::layout_of(impl_->spec, impl_->weights, RunArgs{});
    }
    return core::explain(query);
  });
  return text ? *text : text.status().to_string() + "\n";
}

Result<std::string> explain(const MlpSpec& spec, std::int64_t tokens, Device device) {
  return guarded([&]() -> Result<std::string> {
    if (Status status = validate(spec); !status) return status;
    const Result<const DeviceInfo*> info = core::find_device(device);
    if (!info) return info.status();
    const core::PackedLayout* layout = core::packed_layout(device.type);
    const bool packed = layout != nullptr && layout->bytes(spec, **info) > 0;
    return core::explain({spec, tokens, **info, core::threads_of(**info), packed});
  });
}

}  // namespace v0
}  // namespace fusedmlp
