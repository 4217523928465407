// wgmma: D[64, N] (+)= A[64, 16] B[N, 16]^T for one warpgroup, fp32 accumulators in registers, operands in shared
// memory, K-major, 128-byte swizzle; A may be in registers instead. One specialisation a width: the instruction names
// every register.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace fusedmlp::cuda::ptx {

// Descriptor of a tile whose rows of 64 elements lie 128 bytes apart, in groups of 8 (1024 bytes, where the swizzle
// repeats). `address` is the shared-memory address / 16: of a multiple of 8 rows, plus 2 for every 16 elements of k.
__device__ inline std::uint64_t wgmma_descriptor(std::uint32_t address) {
  constexpr std::uint32_t kSwizzle128 = 1u << 30, kGroupStride = 1024 >> 4;
  return std::uint64_t{kSwizzle128 | kGroupStride} << 32 | address;
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most Pending committed groups of this warpgroup are in flight.
template <int Pending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Wgmma<T, N>::run(d, a, b, accumulate): d has N / 2 floats a thread. Row of d[i]: 16 * warp + lane / 4 + 8 * (i / 2
// % 2); column: i / 4 * 8 + lane % 4 * 2 + i % 2. accumulate == 0 overwrites d. A in registers: a[i] is the pair of
// d[2 i], d[2 i + 1] of an accumulator 16 wide.
template <class T, int N>
struct Wgmma;

// clang-format off
#define FUSEDMLP_R8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
                       "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define FUSEDMLP_WGMMA(T, TYPE, N, NUMBERS, A, B, S, A_REGISTERS, B_AFTER, S_AFTER, ...)                 \
  template <>                                                                                            \
  struct Wgmma<T, N> {                                                                                   \
    static __device__ inline void run(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, int accumulate) { \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" S ", 0;\n"                                       \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NUMBERS "}, %" A ", %" B \
                   ", p, 1, 1, 0, 0;\n}"                                                                  \
                   : __VA_ARGS__                                                                         \
                   : "l"(a), "l"(b), "r"(accumulate));                                                   \
    }                                                                                                    \
    static __device__ inline void run(float (&d)[N / 2], const std::uint32_t* a, std::uint64_t b, int accumulate) { \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" S_AFTER ", 0;\n"                                 \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NUMBERS "}, {" A_REGISTERS \
                   "}, %" B_AFTER ", p, 1, 1, 0;\n}"                                                      \
                   : __VA_ARGS__                                                                         \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));               \
    }                                                                                                    \
  };
#define FUSEDMLP_N0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define FUSEDMLP_N1 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define FUSEDMLP_N2 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define FUSEDMLP_N3 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define FUSEDMLP_R32(i) FUSEDMLP_R8(i), FUSEDMLP_R8(i + 8), FUSEDMLP_R8(i + 16), FUSEDMLP_R8(i + 24)
#define FUSEDMLP_WGMMA_64(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 64, FUSEDMLP_N0, "32", "33", "34", \
                 "%32,%33,%34,%35", "36", "37", \
                 FUSEDMLP_R32(0))
#define FUSEDMLP_WGMMA_96(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 96, FUSEDMLP_N0 "," "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47", "48", "49", "50", \
                 "%48,%49,%50,%51", "52", "53", \
                 FUSEDMLP_R32(0), FUSEDMLP_R8(32), FUSEDMLP_R8(40))
#define FUSEDMLP_WGMMA_128(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 128, FUSEDMLP_N0 "," FUSEDMLP_N1, "64", "65", "66", \
                 "%64,%65,%66,%67", "68", "69", \
                 FUSEDMLP_R32(0), FUSEDMLP_R32(32))
#define FUSEDMLP_WGMMA_160(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 160, FUSEDMLP_N0 "," FUSEDMLP_N1 "," "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79", "80", "81", "82", \
                 "%80,%81,%82,%83", "84", "85", \
                 FUSEDMLP_R32(0), FUSEDMLP_R32(32), FUSEDMLP_R8(64), FUSEDMLP_R8(72))
#define FUSEDMLP_WGMMA_192(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 192, FUSEDMLP_N0 "," FUSEDMLP_N1 "," FUSEDMLP_N2, "96", "97", "98", \
                 "%96,%97,%98,%99", "100", "101", \
                 FUSEDMLP_R32(0), FUSEDMLP_R32(32), FUSEDMLP_R32(64))
#define FUSEDMLP_WGMMA_224(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 224, FUSEDMLP_N0 "," FUSEDMLP_N1 "," FUSEDMLP_N2 "," "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111", "112", "113", "114", \
                 "%112,%113,%114,%115", "116", "117", \
                 FUSEDMLP_R32(0), FUSEDMLP_R32(32), FUSEDMLP_R32(64), FUSEDMLP_R8(96), FUSEDMLP_R8(104))
#define FUSEDMLP_WGMMA_256(T, TYPE) \
  FUSEDMLP_WGMMA(T, TYPE, 256, FUSEDMLP_N0 "," FUSEDMLP_N1 "," FUSEDMLP_N2 "," FUSEDMLP_N3, "128", "129", "130", \
                 "%128,%129,%130,%131", "132", "133", \
                 FUSEDMLP_R32(0), FUSEDMLP_R32(32), FUSEDMLP_R32(64), FUSEDMLP_R32(96))

FUSEDMLP_WGMMA_64(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_64(__half, "f16")
FUSEDMLP_WGMMA_96(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_96(__half, "f16")
FUSEDMLP_WGMMA_128(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_128(__half, "f16")
FUSEDMLP_WGMMA_160(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_160(__half, "f16")
FUSEDMLP_WGMMA_192(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_192(__half, "f16")
FUSEDMLP_WGMMA_224(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_224(__half, "f16")
FUSEDMLP_WGMMA_256(__nv_bfloat16, "bf16")
FUSEDMLP_WGMMA_256(__half, "f16")
#undef FUSEDMLP_WGMMA_64
#undef FUSEDMLP_WGMMA_96
#undef FUSEDMLP_WGMMA_128
#undef FUSEDMLP_WGMMA_160
#undef FUSEDMLP_WGMMA_192
#undef FUSEDMLP_WGMMA_224
#undef FUSEDMLP_WGMMA_256
#undef FUSEDMLP_R32
#undef FUSEDMLP_N3
#undef FUSEDMLP_N2
#undef FUSEDMLP_N1
#undef FUSEDMLP_N0
#undef FUSEDMLP_WGMMA
#undef FUSEDMLP_R8
// clang-format on

}  // namespace fusedmlp::cuda::ptx
