#include "trace/traffic.h"

#include <cmath>

#include "core/cost_model.h"
#include "core/format.h"

namespace fusedmlp::trace {
namespace {

std::optional<DType> storage(const MlpRow& row) {
  if (!row.dtype) return {};
  if (*row.dtype == "tf32") return DType::f32;
  const Result<DType> dtype = parse_dtype(*row.dtype);
  return dtype ? std::optional<DType>(*dtype) : std::nullopt;
}

double elements(std::int64_t rows, std::int64_t columns) {
  return static_cast<double>(rows) * static_cast<double>(columns);
}

}  // namespace

bool activation_known(const MlpRow& row) { return parse_spec(core::format("{}:1x1", row.kind)).ok(); }

std::optional<MlpSpec> spec_of(const MlpRow& row) {
  const std::optional<DType> dtype = storage(row);
  if (!dtype || !row.d_in || !row.d_hidden || !row.d_out) return {};
  MlpSpec spec;
  const Result<MlpSpec> named = parse_spec(core::format("{}:1x1", row.kind));
  spec.activation = named ? named->activation : Activation::identity;
  spec.gated = row.gated;
  spec.d_in = *row.d_in;
  spec.d_hidden = *row.d_hidden;
  spec.d_out = *row.d_out;
  spec.dtype = *dtype;
  spec.bias_up = spec.bias_down = row.bias.value_or(false);
  spec.bias_gate = spec.gated && spec.bias_up;
  return validate(spec).ok() ? std::optional<MlpSpec>(spec) : std::nullopt;
}

std::optional<core::GpuWork> fused_work(const MlpRow& row) {
  const std::optional<MlpSpec> spec = spec_of(row);
  if (!spec || !row.tokens || *row.tokens < 0) return {};
  const std::int64_t tokens = *row.tokens;
  core::GpuWork work = core::gpu_work(*spec, tokens);
  if (row.experts) {
    if (!row.top_k || *row.experts <= 0 || *row.top_k <= 0) return {};
    const double experts = static_cast<double>(*row.experts);
    const double missed = 1 - std::min(1.0, static_cast<double>(*row.top_k) / experts);
    const double reached = experts * (1 - std::pow(missed, static_cast<double>(tokens)));
    work.flops *= static_cast<double>(*row.top_k);
    work.bytes = reached * core::weight_bytes(*spec) + core::activation_bytes(*spec, tokens);
  }
  if (row.phase == Phase::backward) {
    const double x = elements(tokens, spec->d_in) * static_cast<double>(size_of(spec->dtype));
    work.flops *= 2;
    work.bytes += work.bytes - core::activation_bytes(*spec, tokens) + x;
  }
  return work;
}

std::optional<core::GpuWork> traced_work(const MlpRow& row, const Instance& instance) {
  std::optional<core::GpuWork> work = fused_work(row);
  if (!work || row.experts || row.phase == Phase::backward) return work;
  const MlpSpec spec = *spec_of(row);
  const double hidden = elements(*row.tokens, spec.d_hidden);
  const double up = elements(spec.d_hidden, spec.d_in);
  const double x = elements(*row.tokens, spec.d_in);
  bool multiplies = false;
  for (const Part& part : instance.parts) multiplies = multiplies || part.role == Role::multiply;
  double count = 0;
  for (const Part& part : instance.parts) {
    switch (part.role) {
      case Role::gate:
      case Role::up: count += up + x + hidden; break;
      case Role::gate_up: count += 2 * up + x + 2 * hidden; break;
      case Role::activation: count += (spec.gated && !multiplies ? 3 : 2) * hidden; break;
      case Role::multiply: count += 3 * hidden; break;
      case Role::bias:
      case Role::cast: count += 2 * hidden; break;
      case Role::down: count += elements(spec.d_out, spec.d_hidden + *row.tokens) + hidden; break;
      case Role::reduce:
      case Role::routing:
      case Role::other: break;
    }
  }
  work->bytes = std::max(work->bytes, count * static_cast<double>(size_of(spec.dtype)));
  return work;
}

}  // namespace fusedmlp::trace
