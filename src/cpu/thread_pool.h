// The library's own executor: a small pool of std::thread.
#pragma once

#include <memory>

#include "fusedmlp/plan.h"

namespace fusedmlp::cpu {

// A pool that runs up to `threads` tasks at once, the calling thread among them (threads - 1 workers, or as many as
// the system lets start). A call made while another is under way, also from inside a task, runs its tasks on the
// calling thread, and so does one in a fork's child.
std::unique_ptr<Executor> make_thread_pool(int threads);

// CPUs this process may run on, or FUSEDMLP_NUM_THREADS where that is a whole number from 1 to 4096.
int default_thread_count();

}  // namespace fusedmlp::cpu
