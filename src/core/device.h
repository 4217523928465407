// Device descriptions without a copy.
#pragma once

#include <vector>

#include "fusedmlp/device.h"

namespace fusedmlp::core {

// One of a few descriptions made once per process. FUSEDMLP_ISA is read at each call and says which; a word it
// does not know, or a class this CPU lacks, is a Status.
Result<const DeviceInfo*> cpu_device();

// The same for any device; a GPU's description is made once per process too.
Result<const DeviceInfo*> find_device(Device device);

// The GPU as a stream of a green context with so many SMs has it: a description made once per process and number.
DeviceInfo partition_of(const DeviceInfo& device, int cores);
Result<const DeviceInfo*> find_partition(Device device, int cores);

// Those of `gpus` that `find` describes: one that is older than every kernel is no device of this library.
std::vector<Device> usable(std::vector<Device> gpus, Result<const DeviceInfo*> (*find)(Device));

// CPUs this process may run on, at least 1.
int usable_cpus();

// Whether this is one of those descriptions itself, which lives unchanged as long as the process, and no copy.
bool is_permanent(const DeviceInfo& device);

// The class to use: the best one, or the one named by `wanted` (null or empty: no wish).
Result<Isa> select_isa(const char* wanted, Isa best);

}  // namespace fusedmlp::core
