// PyTorch's own thread pool as this library's executor, so that two pools never fight.
#pragma once

#include <torch/csrc/stable/c/shim.h>

#include "fusedmlp/plan.h"

namespace fusedmlp::pytorch {

class TorchExecutor final : public Executor {
 public:
  int concurrency() const noexcept override {
    std::uint32_t threads = 1;
    return torch_get_num_threads(&threads) == TORCH_SUCCESS && threads > 0 ? static_cast<int>(threads) : 1;
  }

  void parallel(int count, void (*task)(void* context, int index), void* context) override {
    struct Call {
      void (*task)(void*, int);
      void* context;
    } call{task, context};
    const auto body = [](std::int64_t begin, std::int64_t end, void* opaque) {
      const Call& c = *static_cast<const Call*>(opaque);
      for (std::int64_t i = begin; i < end; ++i) c.task(c.context, static_cast<int>(i));
    };
    if (torch_parallel_for(0, count, 1, body, &call) != TORCH_SUCCESS) failed_ = true;
  }

  // Whether PyTorch reported an error; then not every task may have run.
  bool failed() const noexcept { return failed_; }

 private:
  bool failed_ = false;
};

}  // namespace fusedmlp::pytorch
