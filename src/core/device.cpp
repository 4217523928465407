#include "core/device.h"

#include <cpuid.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/amx.h"
#include "core/cpu_constants.h"
#include "core/format.h"
#include "core/guarded.h"
#include "core/kernel.h"
#include "core/text.h"

namespace fusedmlp {
namespace core {
namespace {

struct Caches {
  std::size_t l1 = 32u << 10;
  std::size_t l2 = 512u << 10;
  std::size_t l3 = 8u << 20;
};

std::vector<int> allowed_cpus() {
  for (int capacity = CPU_SETSIZE; capacity <= CPU_SETSIZE << 6; capacity <<= 1) {  // the kernel may know more CPUs
    const auto release = [](cpu_set_t* set) { CPU_FREE(set); };
    const std::unique_ptr<cpu_set_t, decltype(release)> set(CPU_ALLOC(static_cast<std::size_t>(capacity)), release);
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
    if (set == nullptr || sched_getaffinity(0, bytes, set.get()) != 0) continue;
    std::vector<int> cpus;
    for (int cpu = 0; cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set.get())) cpus.push_back(cpu);
    }
    if (!cpus.empty()) return cpus;
  }
  return {0};
}

std::string first_line(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// L3 comes from sysfs, which knows who shares it: sysconf reports a host's total inside some virtual machines.
Caches detect_caches(const std::vector<int>& cpus) {
  Caches caches;
  const auto ask = [](int name, std::size_t& bytes) {
    if (const long value = sysconf(name); value > 0) bytes = static_cast<std::size_t>(value);
  };
  ask(_SC_LEVEL1_DCACHE_SIZE, caches.l1);
  ask(_SC_LEVEL2_CACHE_SIZE, caches.l2);
  ask(_SC_LEVEL3_CACHE_SIZE, caches.l3);

  const auto l3_file = [](int cpu, const char* name) {
    return core::format("/sys/devices/system/cpu/cpu{}/cache/index3/{}", cpu, name);
  };
  const std::string size = first_line(l3_file(cpus.front(), "size"));  // "32768K"
  std::size_t kib = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), kib);
  if (error == std::errc() && kib > 0 && end != size.data() + size.size() && *end == 'K') {
    std::set<std::string> instances;
    for (const int cpu : cpus) instances.insert(first_line(l3_file(cpu, "shared_cpu_list")));
    caches.l3 = instances.size() * (kib << 10);
  }
  return caches;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t value = line.find_first_not_of(" \t", line.find(':') + 1);
    if (line.find(':') != std::string::npos && value != std::string::npos) return line.substr(value);
  }
  return "x86-64 CPU";
}

bool has_f16c() {  // not every supported compiler's __builtin_cpu_supports knows it
  unsigned int a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

Isa best_isa(bool amx) {
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  return avx512 && amx ? Isa::amx : avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::generic;
}

DeviceInfo describe_cpu(const CpuConstants& row, const std::string& name, int cores, const Caches& caches) {
  constexpr double kGiga = 1e9;
  DeviceInfo info;
  info.name = name;
  info.isa = row.isa;
  info.cores = cores;
  info.l1_bytes = caches.l1;
  info.l2_bytes = caches.l2;
  info.l3_bytes = caches.l3;
  for (int i = 0; i < kDTypeCount; ++i) info.flops_per_core[i] = row.gflops_per_core[i] * kGiga;
  info.tile_flops_per_core[static_cast<int>(DType::bf16)] = row.tile_gflops_per_core * kGiga;
  info.l2_bandwidth_per_core = row.l2_per_core * kGiga;
  info.l3_bandwidth_per_core = row.l3_per_core * kGiga;
  info.l3_bandwidth = row.l3_per_core * cores * kGiga;  // slices come with cores
  info.memory_bandwidth_per_core = row.memory_per_core * kGiga;
  const double shares = std::max(1.0, cores / 2.0);
  info.memory_bandwidth = cores == 1 ? info.memory_bandwidth_per_core
                                     : std::min(row.memory_two_cores * shares, row.memory_socket) * kGiga;
  info.launch_seconds = row.region_us * 1e-6;
  info.basis = Basis::modelled;
  return info;
}

// FLOP/s a core of AVX-512's products of bf16 pairs (VDPBF16PS), given the rate of fp32; 0 where it has none. AMD
// from Zen 4 on multiplies two pairs a lane where it multiplies one fp32; Intel's take two cycles: 86 against 174
// GFLOP/s on a Xeon of 2023.
double pair_flops(double fp32) {
  unsigned int a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned int kBf16 = 1u << 5;  // leaf 7, subleaf 1, EAX: AVX512_BF16
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & kBf16) == 0) return 0;
  return fp32 * (__builtin_cpu_is("amd") ? 2.0 : 0.5);
}

struct Cpu {
  std::string without_amx = missing_for_amx();
  Isa best = best_isa(without_amx.empty());
  std::array<DeviceInfo, std::size(kCpuConstants)> by_isa;

  Cpu() {
    const std::vector<int> cpus = allowed_cpus();
    const std::string name = cpu_name();
    const Caches caches = detect_caches(cpus);
    for (const CpuConstants& row : kCpuConstants) {
      DeviceInfo& info = by_isa[static_cast<std::size_t>(row.isa)];
      info = describe_cpu(row, name, static_cast<int>(cpus.size()), caches);
      info.isa_note = without_amx;
    }
    if (best >= Isa::avx512) {
      DeviceInfo& avx512 = by_isa[static_cast<std::size_t>(Isa::avx512)];
      avx512.tile_flops_per_core[static_cast<int>(DType::bf16)] =
          pair_flops(avx512.flops_per_core[static_cast<int>(DType::f32)]);
    }
  }
};

const Cpu& this_cpu() {
  static const Cpu cpu;
  return cpu;
}

struct Gpus {
  std::mutex mutex;
  std::map<int, DeviceInfo> by_index;                    // a map's values stay where they are
  std::map<std::pair<int, int>, DeviceInfo> partitions;  // by index and SMs
};

Gpus& gpus() {
  static Gpus all;
  return all;
}

}  // namespace

Result<Isa> select_isa(const char* wanted, Isa best) {
  if (wanted == nullptr || *wanted == '\0') return best;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (std::string_view(wanted) != to_string(isa)) continue;
    if (isa <= best) return isa;
    return Status(StatusCode::unsupported, "FUSEDMLP_ISA",
                  core::format("got {}, but the best class of this CPU is {}", wanted, to_string(best)));
  }
  return Status(StatusCode::invalid_argument, "FUSEDMLP_ISA",
                core::format("got {}, accepted: generic, avx2, avx512, amx", quoted(wanted)));
}

Result<const DeviceInfo*> cpu_device() {
  const Cpu& cpu = this_cpu();
  const Result<Isa> isa = select_isa(std::getenv("FUSEDMLP_ISA"), cpu.best);
  if (!isa) return isa.status();
  return &cpu.by_isa[static_cast<std::size_t>(*isa)];
}

Result<const DeviceInfo*> find_device(Device device) {
  if (device.type == DeviceType::cpu) return cpu_device();
  Gpus& all = gpus();
  const std::lock_guard lock(all.mutex);
  const auto known = all.by_index.find(device.index);
  if (known != all.by_index.end()) return &known->second;
  Result<DeviceInfo> info = describe_cuda(device.index);
  if (!info) return info.status();
  return &all.by_index.emplace(device.index, std::move(*info)).first->second;
}

DeviceInfo partition_of(const DeviceInfo& device, int cores) {
  DeviceInfo part = device;
  part.cores = cores;
  // The tuned table knows devices by their names, and what was measured on all SMs says nothing about some.
  part.name = core::format("{}, {} SMs", device.name, cores);
  // An SM draws about twice its share of the bandwidth where few of them draw (H200).
  part.memory_bandwidth = std::min(device.memory_bandwidth, 2 * cores * device.memory_bandwidth_per_core);
  return part;
}

Result<const DeviceInfo*> find_partition(Device device, int cores) {
  const Result<const DeviceInfo*> whole = find_device(device);
  if (!whole) return whole.status();
  Gpus& all = gpus();
  const std::lock_guard lock(all.mutex);
  const std::pair key(device.index, cores);
  const auto known = all.partitions.find(key);
  if (known != all.partitions.end()) return &known->second;
  return &all.partitions.emplace(key, partition_of(**whole, cores)).first->second;
}

std::vector<Device> usable(std::vector<Device> gpus, Result<const DeviceInfo*> (*find)(Device)) {
  std::erase_if(gpus, [&](Device gpu) { return !find(gpu).ok(); });
  return gpus;
}

int usable_cpus() { return static_cast<int>(allowed_cpus().size()); }

bool is_permanent(const DeviceInfo& device) {
  for (const DeviceInfo& own : this_cpu().by_isa) {
    if (&own == &device) return true;
  }
  Gpus& all = gpus();
  const std::lock_guard lock(all.mutex);
  const auto known = all.by_index.find(device.device.index);
  if (known != all.by_index.end() && &known->second == &device) return true;
  const auto part = all.partitions.find({device.device.index, device.cores});
  return part != all.partitions.end() && &part->second == &device;
}

}  // namespace core

inline namespace v0 {

const char* to_string(Isa isa) noexcept {
  switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::amx: return "amx";
  }
  return "unknown";
}

const char* to_string(Basis basis) noexcept {
  switch (basis) {
    case Basis::measured: return "measured";
    case Basis::modelled: return "modelled";
    case Basis::unsupported: return "unsupported";
  }
  return "unknown";
}

std::string to_string(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : core::format("cuda:{}", device.index);
}

Result<Device> parse_device(std::string_view text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  constexpr std::string_view kPrefix = "cuda:";
  if (text.starts_with(kPrefix)) {
    const char* begin = text.data() + kPrefix.size();
    const char* end = text.data() + text.size();
    int index = -1;
    const auto [stop, error] = std::from_chars(begin, end, index);
    if (error == std::errc() && stop == end && index >= 0) return Device::cuda(index);
  }
  return Status(StatusCode::invalid_argument, "device",
                "got " + core::quoted(text) + ", accepted: cpu, cuda, cuda:N with N >= 0");
}

Result<DeviceInfo> describe(Device device) {
  return core::guarded([&]() -> Result<DeviceInfo> {
    const Result<const DeviceInfo*> info = core::find_device(device);
    if (!info) return info.status();
    return **info;
  });
}

Result<Isa> cpu_isa() {
  return core::guarded([]() -> Result<Isa> {
    const Result<const DeviceInfo*> info = core::cpu_device();
    if (!info) return info.status();
    return (*info)->isa;
  });
}

std::vector<Device> devices() {
  std::vector<Device> all = core::usable(core::cuda_devices(), core::find_device);
  all.insert(all.begin(), Device::cpu());
  return all;
}

}  // namespace v0
}  // namespace fusedmlp
