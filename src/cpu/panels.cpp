#include "cpu/panels.h"

#include <emmintrin.h>
#include <xmmintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/isa_kernels.h"

namespace fusedmlp::cpu {
namespace {

constexpr std::size_t align64(std::size_t bytes) { return (bytes + 63) & ~std::size_t{63}; }

// Where the 2 * lanes columns of a panel begin in the caller's memory; null beyond the matrix.
struct Columns {
  const std::byte* at[2 * kMaxLanes];
  std::int64_t step[2];      // by vector: elements from one k to the next
  std::int64_t neighbor[2];  // elements from one column to the next
  bool whole = true;         // none is null

  bool out_in() const { return whole && step[0] == 1 && step[1] == 1; }
  bool in_out() const { return whole && neighbor[0] == 1 && neighbor[1] == 1; }
};

// Vector `half` of the panel: columns first, first + 1, ... of the matrix.
void set_vector(Columns& columns, int half, const MatrixView& matrix, std::int64_t first, int lanes,
                std::size_t element) {
  columns.step[half] = matrix.col_stride;
  columns.neighbor[half] = matrix.row_stride;
  for (int i = 0; i < lanes; ++i) {
    const std::int64_t row = first + i;
    const bool inside = row < matrix.rows;
    columns.at[half * lanes + i] = inside ? static_cast<const std::byte*>(matrix.data) +
                                                static_cast<std::size_t>(row * matrix.row_stride) * element
                                          : nullptr;
    columns.whole = columns.whole && inside;
  }
}

// Any strides, element by element: to[(k - k0) / group][column][k % group], group 2 for bf16 pairs, else 1.
template <class T, int kGroup>
void gather(const Columns& columns, int width, std::int64_t k0, std::int64_t k1, T* to) {
  const std::int64_t padded = ceil_div(k1 - k0, kGroup) * kGroup;
  for (int n = 0; n < width; ++n) {
    const std::int64_t step = columns.step[2 * n / width];
    const T* from = reinterpret_cast<const T*>(columns.at[n]);
    if (from) from += k0 * step;
    T* out = to + n * kGroup;
    for (std::int64_t k = 0; k < padded; ++k) {
      const bool inside = from && k < k1 - k0;
      out[(k / kGroup) * kGroup * width + k % kGroup] = inside ? from[k * step] : T{0};
    }
  }
}

// [out, in] matrices: 4 x 4 blocks of 32 bits (an fp32, or two consecutive bf16) turned in registers. One cache
// line of each column at a time.
void turn32(const Columns& columns, int width, std::size_t first_byte, std::int64_t count, std::uint32_t* to) {
  for (std::int64_t line = 0; line < count; line += 16) {
    const std::int64_t end = std::min(line + 16, count);
    for (int n = 0; n < width; n += 4) {
      for (std::int64_t k = line; k < end; k += 4) {
        __m128 row[4];
        for (int i = 0; i < 4; ++i) {
          const auto* from = reinterpret_cast<const float*>(columns.at[n + i] + first_byte);
          row[i] = _mm_loadu_ps(from + k);
        }
        _MM_TRANSPOSE4_PS(row[0], row[1], row[2], row[3]);
        for (int i = 0; i < 4; ++i) _mm_store_ps(reinterpret_cast<float*>(to + (k + i) * width + n), row[i]);
      }
    }
  }
}

// The same for 8 x 8 blocks of 16 bits (fp16).
void turn16(const Columns& columns, int width, std::size_t first_byte, std::int64_t count, std::uint16_t* to) {
  for (int n = 0; n < width; n += 8) {
    for (std::int64_t k = 0; k < count; k += 8) {
      __m128i a[8], b[8];
      for (int i = 0; i < 8; ++i) {
        const auto* from = reinterpret_cast<const std::uint16_t*>(columns.at[n + i] + first_byte);
        a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k));
      }
      for (int i = 0; i < 4; ++i) {
        b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
      }
      for (int i = 0; i < 2; ++i) {
        a[4 * i] = _mm_unpacklo_epi32(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = _mm_unpackhi_epi32(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = _mm_unpacklo_epi32(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = _mm_unpackhi_epi32(b[4 * i + 1], b[4 * i + 3]);
      }
      for (int i = 0; i < 4; ++i) {
        b[2 * i] = _mm_unpacklo_epi64(a[i], a[i + 4]);
        b[2 * i + 1] = _mm_unpackhi_epi64(a[i], a[i + 4]);
      }
      for (int i = 0; i < 8; ++i) _mm_store_si128(reinterpret_cast<__m128i*>(to + (k + i) * width + n), b[i]);
    }
  }
}

// [in, out] matrices: the columns of a vector lie side by side.
template <class T, int kGroup>
void copy_rows(const Columns& columns, int lanes, std::int64_t k0, std::int64_t k1, T* to) {
  for (int half = 0; half < 2; ++half) {
    const T* from = reinterpret_cast<const T*>(columns.at[half * lanes]) + k0 * columns.step[half];
    for (std::int64_t k = 0; k < k1 - k0; ++k, from += columns.step[half]) {
      T* out = to + ((k / kGroup) * 2 * lanes + half * lanes) * kGroup + k % kGroup;
      for (int n = 0; n < lanes; ++n) out[n * kGroup] = from[n];
    }
  }
}

template <class T, int kGroup>
void make_panel(const Columns& columns, int lanes, std::int64_t k0, std::int64_t k1, T* to) {
  const int width = 2 * lanes;
  std::int64_t k = k0;
  if (columns.out_in()) {
    constexpr std::int64_t kBlock = sizeof(T) * kGroup == 4 ? 4 * kGroup : 8;
    const std::int64_t count = (k1 - k0) / kBlock * kBlock;
    const std::size_t first_byte = static_cast<std::size_t>(k0) * sizeof(T);
    if constexpr (sizeof(T) * kGroup == 4) {
      turn32(columns, width, first_byte, count / kGroup, reinterpret_cast<std::uint32_t*>(to));
    } else {
      turn16(columns, width, first_byte, count, to);
    }
    k += count;
  } else if (columns.in_out()) {
    const std::int64_t count = (k1 - k0) / kGroup * kGroup;
    copy_rows<T, kGroup>(columns, lanes, k0, k0 + count, to);
    k += count;
  }
  if (k < k1) gather<T, kGroup>(columns, width, k, k1, to + (k - k0) * width);
}

// Bias i of the panel form is bias[first + i] as fp32, or 0.
void place_bias(DType dtype, const VectorView& bias, std::int64_t first, int count, float* to) {
  for (int i = 0; i < count; ++i) {
    const std::int64_t at = first + i;
    to[i] = bias.data && at < bias.size ? core::load(dtype, bias.data, at * bias.stride) : 0.0f;
  }
}

}  // namespace

PackedShape::PackedShape(const MlpSpec& spec, int lanes)
    : columns_per_hidden_panel(spec.gated ? lanes : 2 * lanes),
      columns_per_down_panel(2 * lanes),
      hidden_panels(ceil_div(spec.d_hidden, columns_per_hidden_panel)),
      down_panels(ceil_div(spec.d_out, columns_per_down_panel)),
      hidden_panel_bytes(panel_bytes(spec.dtype, spec.d_in, lanes)),
      down_panel_bytes(panel_bytes(spec.dtype, spec.d_hidden, lanes)) {
  const std::size_t bias_bytes = 2 * static_cast<std::size_t>(lanes) * sizeof(float);
  hidden_bias = align64(static_cast<std::size_t>(hidden_panels) * hidden_panel_bytes);
  down_weights = align64(hidden_bias + static_cast<std::size_t>(hidden_panels) * bias_bytes);
  down_bias = align64(down_weights + static_cast<std::size_t>(down_panels) * down_panel_bytes);
  total = align64(down_bias + static_cast<std::size_t>(down_panels) * bias_bytes);
}

Split hidden_split(const PackedShape& shape, int tasks) {
  return {shape.hidden_panels, tasks, panels_per_line(shape.columns_per_hidden_panel, sizeof(float))};
}

Split down_split(const PackedShape& shape, DType dtype, int tasks) {
  return {shape.down_panels, tasks, panels_per_line(shape.columns_per_down_panel, size_of(dtype))};
}

std::size_t panel_bytes(DType dtype, std::int64_t k, int lanes) {
  const std::int64_t rows = dtype == DType::bf16 ? ceil_div(k, 2) * 2 : k;
  return static_cast<std::size_t>(rows * 2 * lanes) * size_of(dtype);
}

PanelSource PanelSource::hidden(const MlpSpec& spec, const core::HiddenWeights& weights, const void* packed,
                                const PackedShape& shape, int lanes) {
  PanelSource source;
  source.packed_ = static_cast<const std::byte*>(packed);
  source.panel_stride_ = shape.hidden_panel_bytes;
  source.row_bytes_ = 2 * static_cast<std::size_t>(lanes) * size_of(spec.dtype);
  source.dtype_ = spec.dtype;
  source.lanes_ = lanes;
  source.first_ = spec.gated ? weights.gate : weights.up;
  if (spec.gated) source.second_ = weights.up;
  return source;
}

PanelSource PanelSource::down(const MlpSpec& spec, const MatrixView& weights, const void* packed,
                              const PackedShape& shape, int lanes) {
  PanelSource source;
  source.packed_ = packed ? static_cast<const std::byte*>(packed) + shape.down_weights : nullptr;
  source.panel_stride_ = shape.down_panel_bytes;
  source.row_bytes_ = 2 * static_cast<std::size_t>(lanes) * size_of(spec.dtype);
  source.dtype_ = spec.dtype;
  source.lanes_ = lanes;
  source.first_ = weights;
  return source;
}

void PanelSource::make(std::int64_t panel, std::int64_t k0, std::int64_t k1, void* to) const {
  Columns columns;
  const std::size_t element = size_of(dtype_);
  if (second_.data) {
    set_vector(columns, 0, first_, panel * lanes_, lanes_, element);
    set_vector(columns, 1, second_, panel * lanes_, lanes_, element);
  } else {
    set_vector(columns, 0, first_, panel * 2 * lanes_, lanes_, element);
    set_vector(columns, 1, first_, (panel * 2 + 1) * lanes_, lanes_, element);
  }
  switch (dtype_) {
    case DType::f32: make_panel<std::uint32_t, 1>(columns, lanes_, k0, k1, static_cast<std::uint32_t*>(to)); break;
    case DType::f16: make_panel<std::uint16_t, 1>(columns, lanes_, k0, k1, static_cast<std::uint16_t*>(to)); break;
    case DType::bf16: make_panel<std::uint16_t, 2>(columns, lanes_, k0, k1, static_cast<std::uint16_t*>(to)); break;
  }
}

void make_hidden_bias(const MlpSpec& spec, const core::HiddenWeights& weights, const PackedShape& shape, int lanes,
                      float* to) {
  for (std::int64_t p = 0; p < shape.hidden_panels; ++p, to += 2 * lanes) {
    if (spec.gated) {
      place_bias(spec.dtype, weights.bias_gate, p * lanes, lanes, to);
      place_bias(spec.dtype, weights.bias_up, p * lanes, lanes, to + lanes);
    } else {
      place_bias(spec.dtype, weights.bias_up, p * 2 * lanes, 2 * lanes, to);
    }
  }
}

void make_down_bias(const MlpSpec& spec, const VectorView& bias, const PackedShape& shape, int lanes, float* to) {
  for (std::int64_t p = 0; p < shape.down_panels; ++p) {
    place_bias(spec.dtype, bias, p * 2 * lanes, 2 * lanes, to + p * 2 * lanes);
  }
}

namespace {

int lanes_of(const DeviceInfo& device) {
  const IsaKernels* isa = isa_kernels(device.isa);
  return isa ? isa->lanes : 0;
}

std::size_t layout_bytes(const MlpSpec& spec, const DeviceInfo& device) {
  const int lanes = lanes_of(device);
  return lanes ? PackedShape(spec, lanes).total : 0;
}

Status layout_pack(const MlpSpec& spec, const MlpWeights& weights, const DeviceInfo& device, void* packed,
                   Executor& executor) {
  const int lanes = lanes_of(device);
  if (lanes == 0) return {};
  const PackedShape shape(spec, lanes);
  const core::HiddenWeights hidden = core::resolve(spec, weights);
  auto* base = static_cast<std::byte*>(packed);
  const int tasks = std::max(1, executor.concurrency());

  struct Job {
    PanelSource hidden;
    PanelSource down;
    const PackedShape& shape;
    std::byte* base;
    Split hidden_panels;
    Split down_panels;
  } job{PanelSource::hidden(spec, hidden, nullptr, shape, lanes),
        PanelSource::down(spec, weights.down, nullptr, shape, lanes),
        shape,
        base,
        hidden_split(shape, tasks),
        down_split(shape, spec.dtype, tasks)};
  const auto task = [](void* context, int index) {
    const Job& j = *static_cast<const Job*>(context);
    const Range hidden_panels = j.hidden_panels[index];
    for (std::int64_t p = hidden_panels.begin; p < hidden_panels.end; ++p) {
      j.hidden.make(p, 0, j.hidden.k(), j.base + static_cast<std::size_t>(p) * j.shape.hidden_panel_bytes);
    }
    const Range down_panels = j.down_panels[index];
    for (std::int64_t q = down_panels.begin; q < down_panels.end; ++q) {
      j.down.make(q, 0, j.down.k(),
                  j.base + j.shape.down_weights + static_cast<std::size_t>(q) * j.shape.down_panel_bytes);
    }
  };
  executor.parallel(tasks, task, &job);
  // Last, so that the pages around the biases are already where their panels want them.
  make_hidden_bias(spec, hidden, shape, lanes, reinterpret_cast<float*>(base + shape.hidden_bias));
  make_down_bias(spec, weights.bias_down, shape, lanes, reinterpret_cast<float*>(base + shape.down_bias));
  return {};
}

}  // namespace

const core::PackedLayout& panel_layout() {
  static constexpr core::PackedLayout layout{"panels", &layout_bytes, &layout_pack};
  return layout;
}

}  // namespace fusedmlp::cpu
