#include "core/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "core/format.h"

namespace fusedmlp::core {
namespace {

// Intel SDM, volume 2, CPUID leaf 7, and volume 1, 13.1: the state components that XCR0 enables.
constexpr std::uint32_t kLeaf7Amx = (1u << 22) | (1u << 24);   // EDX: AMX-BF16, AMX-TILE
constexpr std::uint32_t kLeaf7Sub1Bf16 = 1u << 5;              // EAX: AVX512_BF16
constexpr std::uint32_t kXcr0Tiles = (1u << 17) | (1u << 18);  // XTILECFG, XTILEDATA
constexpr long kTileData = 18;
constexpr long kArchReqXcompPerm = 0x1023;  // Linux 5.16, arch/x86/include/uapi/asm/prctl.h

std::uint32_t read_xcr0() {
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

std::string missing_for_amx() {
  unsigned int a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kLeaf7Amx) != kLeaf7Amx) {
    return "the CPU lacks AMX-TILE or AMX-BF16";
  }
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & kLeaf7Sub1Bf16) == 0) return "the CPU lacks AVX512_BF16";
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0 || (read_xcr0() & kXcr0Tiles) != kXcr0Tiles) {
    return "the operating system has not enabled the tile registers (XCR0)";
  }
  if (syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) != 0) {
    return core::format("the operating system refused the tile registers: arch_prctl(ARCH_REQ_XCOMP_PERM): {}",
                        std::strerror(errno));
  }
  return {};
}

}  // namespace fusedmlp::core
