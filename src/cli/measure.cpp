#include "cli/measure.h"

#include <immintrin.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "core/numeric.h"
#include "cpu/amx_tiles.h"

namespace fusedmlp::cli {
namespace {

constexpr double kSeconds = 0.06;  // a measurement; the best of kRepeats counts, as these are limits
constexpr int kRepeats = 3;
constexpr int kRows = 6;         // tile rows: 6 x 2 vectors of sums fill 12 of the 16 AVX2 registers
constexpr int kPanelSteps = 64;  // 64 k-steps of a weight panel stay in L1

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

Buffer make_buffer(std::size_t bytes) {
  const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
  Buffer out(static_cast<std::byte*>(std::aligned_alloc(4096, rounded)));
  if (out == nullptr) throw std::bad_alloc();
  // Random bits would be NaN here and there; 0x3c3c is an ordinary number in fp32, bf16 and fp16 alike.
  std::memset(out.get(), 0x3c, rounded);
  return out;
}

// One pass over a panel of kPanelSteps vectors pairs; returns the operations done. `sink` keeps the sums alive.
using FmaPass = double (*)(const void* panel, float* sink);
// Reads `bytes` (a multiple of 1024) once.
using ReadPass = double (*)(const std::byte* data, std::size_t bytes);

#define FUSEDMLP_AVX2 __attribute__((target("avx2,fma,f16c")))
#define FUSEDMLP_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))

// How a step of the panel, two vectors of weights, comes into fp32 registers. bf16 lies in pairs of k: a shift and a
// mask widen it.
struct Fp32 {
  FUSEDMLP_AVX2 static void load(const void* panel, int k, __m256& a, __m256& b) {
    const float* from = static_cast<const float*>(panel) + 16 * k;
    a = _mm256_loadu_ps(from);
    b = _mm256_loadu_ps(from + 8);
  }
  FUSEDMLP_AVX512 static void load(const void* panel, int k, __m512& a, __m512& b) {
    const float* from = static_cast<const float*>(panel) + 32 * k;
    a = _mm512_loadu_ps(from);
    b = _mm512_loadu_ps(from + 16);
  }
};

struct Bf16 {
  static constexpr int kHigh = static_cast<int>(0xffff0000u);
  FUSEDMLP_AVX2 static void load(const void* panel, int k, __m256& a, __m256& b) {
    const __m256i pair = _mm256_loadu_si256(static_cast<const __m256i*>(panel) + k);
    a = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
    b = _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(kHigh)));
  }
  // Masked forms with every lane taken, here and below: gcc 12 warns inside its own unmasked ones.
  FUSEDMLP_AVX512 static void load(const void* panel, int k, __m512& a, __m512& b) {
    const __m512i pair = _mm512_loadu_si512(static_cast<const __m512i*>(panel) + k);
    a = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, pair, 16));
    b = _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(kHigh)));
  }
};

struct Fp16 {
  FUSEDMLP_AVX2 static void load(const void* panel, int k, __m256& a, __m256& b) {
    const auto* from = static_cast<const __m128i*>(panel) + 2 * k;
    a = _mm256_cvtph_ps(_mm_loadu_si128(from));
    b = _mm256_cvtph_ps(_mm_loadu_si128(from + 1));
  }
  FUSEDMLP_AVX512 static void load(const void* panel, int k, __m512& a, __m512& b) {
    const auto* from = static_cast<const __m256i*>(panel) + 2 * k;
    a = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(from));
    b = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(from + 1));
  }
};

// The inner tile of a kernel without its loads of x: two vectors of weights against kRows broadcast inputs.
template <class Storage>
FUSEDMLP_AVX2 double fma_avx2(const void* panel, float* sink) {
  __m256 sum[2][kRows], x[kRows], w[2];
  for (int r = 0; r < kRows; ++r) {
    sum[0][r] = sum[1][r] = _mm256_setzero_ps();
    x[r] = _mm256_set1_ps(sink[r]);
  }
  for (int k = 0; k < kPanelSteps; ++k) {
    Storage::load(panel, k, w[0], w[1]);
    for (int r = 0; r < kRows; ++r) {
      sum[0][r] = _mm256_fmadd_ps(w[0], x[r], sum[0][r]);
      sum[1][r] = _mm256_fmadd_ps(w[1], x[r], sum[1][r]);
    }
  }
  for (int r = 0; r < kRows; ++r) _mm256_storeu_ps(sink + 16 * (r + 1), _mm256_add_ps(sum[0][r], sum[1][r]));
  return 2.0 * 2 * kRows * 8 * kPanelSteps;
}

template <class Storage>
FUSEDMLP_AVX512 double fma_avx512(const void* panel, float* sink) {
  __m512 sum[2][kRows], x[kRows], w[2];
  for (int r = 0; r < kRows; ++r) {
    sum[0][r] = sum[1][r] = _mm512_setzero_ps();
    x[r] = _mm512_set1_ps(sink[r]);
  }
  for (int k = 0; k < kPanelSteps; ++k) {
    Storage::load(panel, k, w[0], w[1]);
    for (int r = 0; r < kRows; ++r) {
      sum[0][r] = _mm512_fmadd_ps(w[0], x[r], sum[0][r]);
      sum[1][r] = _mm512_fmadd_ps(w[1], x[r], sum[1][r]);
    }
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(sink + 16 * (r + 1), _mm512_add_ps(sum[0][r], sum[1][r]));
  return 2.0 * 2 * kRows * 16 * kPanelSteps;
}

// Plain x86-64: 4 lanes, a multiply and an addition; nothing faster runs in this class, whatever the storage.
double fma_generic(const void* panel, float* sink) {
  const float* p = static_cast<const float*>(panel);
  __m128 sum[2][kRows];
  for (auto& row : sum) std::fill(std::begin(row), std::end(row), _mm_setzero_ps());
  for (int k = 0; k < kPanelSteps; ++k) {
    for (int j = 0; j < 2; ++j) {
      const __m128 w = _mm_loadu_ps(p + 8 * k + 4 * j);
      for (int r = 0; r < kRows; ++r) sum[j][r] = _mm_add_ps(sum[j][r], _mm_mul_ps(w, _mm_set1_ps(sink[r])));
    }
  }
  for (int r = 0; r < kRows; ++r) _mm_storeu_ps(sink + 16, _mm_add_ps(sum[0][r], sum[1][r]));
  return 2.0 * 2 * kRows * 4 * kPanelSteps;
}

// Four tiles of N(0, 1): constants draw less power and ran 20 % faster.
struct alignas(64) RandomTiles {
  RandomTiles() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (std::uint16_t& value : values) value = core::float_to_bf16(normal(random));
  }
  const std::byte* tile(int i) const { return reinterpret_cast<const std::byte*>(values + 512 * i); }
  std::uint16_t values[4 * 512];
};

// 2 x 2 tiles, as the kernels have them.
double fma_amx(const void*, float* sink) {
  using Tiles = cpu::AmxTiles;
  constexpr int kSteps = 1024;
  static const RandomTiles operands;
  Tiles::configure(16);
  Tiles::zero<0>();
  Tiles::zero<1>();
  Tiles::zero<2>();
  Tiles::zero<3>();
  Tiles::load<4>(operands.tile(0), 64);
  Tiles::load<5>(operands.tile(1), 64);
  Tiles::load<6>(operands.tile(2), 64);
  Tiles::load<7>(operands.tile(3), 64);
  for (int step = 0; step < kSteps; ++step) {
    Tiles::multiply<0, 4, 6>();
    Tiles::multiply<1, 4, 7>();
    Tiles::multiply<2, 5, 6>();
    Tiles::multiply<3, 5, 7>();
  }
  Tiles::store<0>(sink, 64);
  Tiles::store<1>(sink + 256, 64);
  Tiles::store<2>(sink + 512, 64);
  Tiles::store<3>(sink + 768, 64);
  Tiles::release();
  return 2.0 * 4 * 16 * 16 * 32 * kSteps;
}

// Plain x86-64 reads.
double read_generic(const std::byte* data, std::size_t bytes) {
  __m128i sum[4] = {};
  for (std::size_t i = 0; i < bytes; i += 64) {
    for (std::size_t j = 0; j < 4; ++j) {
      sum[j] = _mm_xor_si128(sum[j], _mm_load_si128(reinterpret_cast<const __m128i*>(data + i) + j));
    }
  }
  const __m128i all = _mm_xor_si128(_mm_xor_si128(sum[0], sum[1]), _mm_xor_si128(sum[2], sum[3]));
  return static_cast<double>(_mm_cvtsi128_si32(all));
}

FUSEDMLP_AVX2 double read_avx2(const std::byte* data, std::size_t bytes) {
  __m256i sum[8] = {};
  for (std::size_t i = 0; i < bytes; i += 256) {
    _Pragma("GCC unroll 8") for (std::size_t j = 0; j < 8; ++j) {
      sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i) + j));
    }
  }
  for (std::size_t j = 1; j < 8; ++j) sum[0] = _mm256_xor_si256(sum[0], sum[j]);
  return static_cast<double>(_mm256_extract_epi32(sum[0], 0));
}

FUSEDMLP_AVX512 double read_avx512(const std::byte* data, std::size_t bytes) {
  __m512i sum[8];
  for (__m512i& s : sum) s = _mm512_setzero_si512();
  for (std::size_t i = 0; i < bytes; i += 512) {
    _Pragma("GCC unroll 8") for (std::size_t j = 0; j < 8; ++j) {
      sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(data + i + 64 * j));
    }
  }
  for (std::size_t j = 1; j < 8; ++j) sum[0] = _mm512_xor_si512(sum[0], sum[j]);
  std::int32_t lanes[16];
  _mm512_storeu_si512(lanes, sum[0]);
  return static_cast<double>(lanes[0]);
}

// Work a second, of all threads together: each calls work(thread), which returns the amount done, until time is up.
template <class Work>
double rate(int threads, const Work& work) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    std::vector<double> rates(static_cast<std::size_t>(threads));
    std::barrier<> start(threads);
    const auto body = [&](int index) {
      work(index);
      start.arrive_and_wait();
      const auto begin = Clock::now();
      double done = 0, seconds = 0;
      while (seconds < kSeconds) {
        done += work(index);
        seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      }
      rates[static_cast<std::size_t>(index)] = done / seconds;
    };
    {
      std::vector<std::jthread> others;
      for (int i = 1; i < threads; ++i) others.emplace_back(body, i);
      body(0);
    }
    double sum = 0;
    for (const double r : rates) sum += r;
    best = std::max(best, sum);
  }
  return best;
}

Rate fma_rate(FmaPass pass, int threads) {
  std::vector<Buffer> panels, sinks;
  panels.reserve(static_cast<std::size_t>(threads));
  sinks.reserve(panels.capacity());
  for (int i = 0; i < threads; ++i) {
    panels.push_back(make_buffer(kPanelSteps * 2 * 64));
    sinks.push_back(make_buffer(4096));
  }
  const auto work = [&](int i) {
    const auto at = static_cast<std::size_t>(i);
    double done = 0;
    for (int n = 0; n < 256; ++n) done += pass(panels[at].get(), reinterpret_cast<float*>(sinks[at].get()));
    return done;
  };
  return {rate(1, work), rate(threads, work)};
}

double read_rate(ReadPass pass, int threads, std::size_t bytes) {
  std::vector<Buffer> buffers;
  buffers.reserve(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) buffers.push_back(make_buffer(bytes));
  std::vector<double> sinks(static_cast<std::size_t>(threads));
  const int passes = static_cast<int>(std::max<std::size_t>(1, (std::size_t{1} << 20) / bytes));
  return rate(threads, [&](int i) {
    const auto at = static_cast<std::size_t>(i);
    for (int n = 0; n < passes; ++n) {
      sinks[at] += pass(buffers[at].get(), bytes);
      asm volatile("" ::: "memory");  // each pass reads again
    }
    return static_cast<double>(bytes) * passes;
  });
}

struct Passes {
  FmaPass fma[kDTypeCount];
  ReadPass read;
};

Passes passes_of(Isa isa) {
  switch (isa) {
    case Isa::amx:
    case Isa::avx512: return {{fma_avx512<Fp32>, fma_avx512<Bf16>, fma_avx512<Fp16>}, read_avx512};
    case Isa::avx2: return {{fma_avx2<Fp32>, fma_avx2<Bf16>, fma_avx2<Fp16>}, read_avx2};
    case Isa::generic: break;
  }
  return {{fma_generic, fma_generic, fma_generic}, read_generic};
}

}  // namespace

double read_once(Isa isa, const std::byte* data, std::size_t bytes) { return passes_of(isa).read(data, bytes); }

Measured measure(const DeviceInfo& device, const std::function<void(std::string_view)>& step) {
  const Passes passes = passes_of(device.isa);
  Measured out;
  out.threads = device.cores;
  for (int i = 0; i < kDTypeCount; ++i) {
    const DType dtype = static_cast<DType>(i);
    step(to_string(dtype));
    out.flops[i] = fma_rate(passes.fma[i], out.threads);
  }
  if (device.isa == Isa::amx) {
    step("AMX");
    out.tile_flops = fma_rate(fma_amx, out.threads);
  }
  const auto share = [&](std::size_t bytes) { return std::max<std::size_t>(4096, bytes / 1024 * 1024); };
  const auto threads = static_cast<std::size_t>(out.threads);
  const std::size_t l2 = share(device.l2_bytes / 2);
  // Past L2, inside this thread's share of L3; and well past L3, but bounded on very large machines.
  const std::size_t l3 = share(std::max(device.l2_bytes * 2, device.l3_bytes / 2 / threads));
  const std::size_t memory = share(std::max<std::size_t>(4 * device.l3_bytes / threads, std::size_t{64} << 20));
  out.l2_bytes = static_cast<double>(l2);
  out.l3_bytes = static_cast<double>(l3);
  out.memory_bytes = static_cast<double>(memory);
  step("L2 bandwidth");
  out.l2 = {read_rate(passes.read, 1, l2), read_rate(passes.read, out.threads, l2)};
  step("L3 bandwidth");
  out.l3 = {read_rate(passes.read, 1, l3), read_rate(passes.read, out.threads, l3)};
  step("memory bandwidth");
  out.memory = {read_rate(passes.read, 1, share(4 * device.l3_bytes)), read_rate(passes.read, out.threads, memory)};
  return out;
}

}  // namespace fusedmlp::cli
